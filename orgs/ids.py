"""Names things: Gram organizations that WorkOS created, and rows of the ledger. Pure."""

from functools import lru_cache
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

#: Every program of Gram's that derives an id uses this namespace, so they all agree on it.
_GRAM_NAMESPACE = uuid5(NAMESPACE_DNS, "speakeasy.com")


# A page asks for each a few times.
@lru_cache(maxsize=1_000)
def derived_id(workos_id: str) -> str:
    """The Gram id of the WorkOS organization ``workos_id``: always the same for the same one."""
    return str(uuid5(_GRAM_NAMESPACE, workos_id))


def content_id(content: bytes) -> str:
    """The ledger's key for an event that has no usable id: a hash of what it holds."""
    return f"sha256:{sha256(content).hexdigest()}"
