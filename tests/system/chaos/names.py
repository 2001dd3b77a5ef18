"""Names and ids, written anew: nothing here may come from the product.

An organization without an ``external_id`` has a Gram id that is derived from its WorkOS id. A slug
is its name in lower case with dashes; where that is taken, with a hexadecimal ending.
"""

import re
from typing import Final
from uuid import NAMESPACE_DNS, uuid5

_NAMESPACE: Final = uuid5(NAMESPACE_DNS, "speakeasy.com")

#: Few, and spelled in ways that slugify alike, so that namesakes are many.
NAMES: Final = tuple(
    f"{word} {number}{ending}"
    for word in ("Acme", "Globex", "Initech", "Umbrella", "Hooli", "Stark")
    for number in range(50)
    for ending in ("", "!", " Inc", " inc.", "  -Inc-")
)


def derived_id(workos_id: str) -> str:
    """The Gram id of an organization that WorkOS knows no ``external_id`` for."""
    return str(uuid5(_NAMESPACE, workos_id))


def slug_base(name: str) -> str:
    """The slug that a name gets if it is free. Of ASCII names alone."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def may_be_slug_of(slug: str, name: str) -> bool:
    """Whether the sync may have chosen this slug for a row that it created under this name."""
    ending = "(-([0-9a-f]{4}|[0-9a-f]{8}|[0-9a-f]{16,64}))?"
    return re.fullmatch(re.escape(slug_base(name)) + ending, slug) is not None
