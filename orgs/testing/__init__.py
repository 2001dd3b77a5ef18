"""A WorkOS stand-in over real HTTP, for the demo, the tests and the benchmark.

`WorkOSStandIn` runs in this process; `python -m orgs.testing` runs one by itself, and
`StandInClient` controls it from others.
"""

from .client import StandInClient
from .deliveries import sign
from .messages import Json, JsonObject, Refused
from .stand_in import WorkOSStandIn
from .ulid import UlidFactory, ulid_milliseconds

__all__ = [
    "Json",
    "JsonObject",
    "Refused",
    "StandInClient",
    "UlidFactory",
    "WorkOSStandIn",
    "sign",
    "ulid_milliseconds",
]
