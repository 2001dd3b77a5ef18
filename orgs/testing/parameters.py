"""Reads the parameters of requests as WorkOS does: what is unknown or out of range is refused."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from .clock import to_milliseconds
from .messages import JsonObject, Refused
from .store import ListQuery

PAGING: Final = frozenset({"after", "before", "limit", "order"})

_LARGEST_PAGE: Final = 100
_DEFAULT_PAGE: Final = 10


def check_names(given: Mapping[str, object], known: frozenset[str]) -> None:
    """Refuse (422) a name that is not known."""
    for name in given:
        if name not in known:
            raise Refused.invalid(name, f"property {name} should not exist")


def list_query(
    query: Mapping[str, str],
    *,
    where: tuple[str, str] | None = None,
    wanted: Callable[[JsonObject], bool] | None = None,
) -> ListQuery:
    """Read what all listings of objects take; Refused (422) for what they don't."""
    if "after" in query and "before" in query:
        raise Refused.invalid("before", "before and after exclude each other")
    return ListQuery(
        limit=limit(query),
        after=query.get("after"),
        before=query.get("before"),
        descending=order(query, "desc") == "desc",
        where=where,
        wanted=wanted,
    )


def limit(query: Mapping[str, str]) -> int:
    """Read how many are asked for: 10 unless given."""
    with suppress(ValueError):
        number = int(query.get("limit", _DEFAULT_PAGE))
        if 1 <= number <= _LARGEST_PAGE:
            return number
    raise Refused.invalid("limit", f"limit must be between 1 and {_LARGEST_PAGE}")


def order(query: Mapping[str, str], default: str) -> str:
    if (given := query.get("order", default)) in ("asc", "desc"):
        return given
    raise Refused.invalid("order", "order must be asc or desc")


def range_bound(query: Mapping[str, str], name: str) -> int | None:
    """Read a moment as the SDK's documentation says: UTC, with Z; an offset is not accepted."""
    text = query.get(name)
    if text is None:
        return None
    with suppress(ValueError):
        if text.endswith("Z"):
            return to_milliseconds(text)
    raise Refused.invalid(name, f"{name} must be an ISO 8601 UTC timestamp with a Z")
