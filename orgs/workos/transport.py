"""Sends requests to WorkOS, each in its turn, and again after a pause that WorkOS asks for."""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orgs.conf import sync_settings
from orgs.domain.budget import Share
from orgs.domain.naming import one_line
from orgs.workos import errors, pacing
from orgs.workos.parsing import Answer, Json

if TYPE_CHECKING:
    from orgs.workos.sdk import Client

#: Seconds between tries after a 429 without Retry-After: 1, doubling, and at most so many.
_LONGEST_BACK_OFF = 60.0

#: Bytes that an id or a parameter may have: httpx2 refuses addresses of 65,536 characters.
_LONGEST_PART = 4_000


def request(
    method: str,
    path: Sequence[str],
    *,
    share: Share = Share.BULK,
    patience: float = 0.0,
    params: Json | None = None,
    body: Json | None = None,
) -> Answer:
    """Ask WorkOS once; after a 429 again, if ``patience`` (seconds) suffices for the pause.

    Parameters that are None are not sent.
    """
    deadline, back_off = time.monotonic() + patience, 1.0
    params = {name: value for name, value in (params or {}).items() if value is not None}
    asked = one_line("/".join(path))
    for part in (*path, *params.values()):
        if len(str(part).encode(errors="replace")) > _LONGEST_PART:
            raise errors.Refused(f"{asked} can't be asked for: it is too long")
    while True:
        client = _client()
        pacing.wait_for_turn(share, deadline=deadline)
        try:
            return client.request(method, path, params=params, body=body)
        except ValueError as error:
            # Nor does the SDK send an id that would change the address (".."), or is not text.
            raise errors.Refused(f"{asked} can't be asked for: {one_line(error)}") from None
        except errors.RateLimited as limited:
            pause = limited.retry_after or back_off
            is_too_long = time.monotonic() + pause > deadline
            if limited.retry_after or not is_too_long:
                pacing.pacer.pause(pause)
            if is_too_long:
                raise
            back_off = min(back_off * 2, _LONGEST_BACK_OFF)


# The client ---------------------------------------------------------------------------------

#: By process, too: a forked one must not use its parent's connections.
_kept: dict[tuple[int, str, str], "Client"] = {}
_verified: set[tuple[str, str]] = set()


def close() -> None:
    """Close this process's connections to WorkOS, and forget pauses and what is verified: for
    tests, each of which has a WorkOS of its own. The next call begins anew."""
    while _kept:
        _kept.popitem()[1].close()
    _verified.clear()
    pacing.pacer.forget()


def note_verified() -> None:
    """Note that this address and key lead to the environment that is mirrored."""
    _verified.add(_address_and_key())


def is_verified() -> bool:
    """Return True if this process has found that out, for the settings of now."""
    return _address_and_key() in _verified


def _address_and_key() -> tuple[str, str]:
    return str(sync_settings().api_key), sync_settings().base_url


def is_header_text(value: str) -> bool:
    """Return True if ``value`` can be sent in a header: printable ASCII."""
    return value.isascii() and value.isprintable()


def _client() -> "Client":
    key, url = _address_and_key()
    if not key:
        raise errors.NotConfigured("there is no WorkOS API key; set WORKOS_API_KEY")
    if not is_header_text(key):
        raise errors.NotConfigured("WORKOS_API_KEY holds characters that no key has; copy it again")
    place = os.getpid(), key, url
    if place not in _kept:
        from orgs.workos.sdk import Client

        # Threads that come first together build a client each, and all use one.
        _kept.setdefault(place, Client(key, url))
    return _kept[place]
