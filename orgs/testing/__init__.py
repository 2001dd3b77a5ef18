"""A fake WorkOS that answers over real HTTP, for tests and demos; docs/testing.md shows its use.

`FakeWorkOS` runs in this process. `python -m orgs.testing` runs one in a process of its own, and
`FakeWorkOSClient` controls it from others. `orgs.testing.pytest` has the fixtures.
"""

from .client import FakeWorkOSClient
from .deliveries import sign
from .fake import FakeWorkOS
from .messages import Json, JsonObject, Refused
from .ulid import UlidFactory, ulid_milliseconds

__all__ = [
    "FakeWorkOS",
    "FakeWorkOSClient",
    "Json",
    "JsonObject",
    "Refused",
    "UlidFactory",
    "sign",
    "ulid_milliseconds",
]
