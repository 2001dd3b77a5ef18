"""Verifies webhooks, and reads which event they announce. Never raises, whatever was sent."""

import hmac
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from orgs.domain.naming import content_id
from orgs.workos import tolerant_json
from orgs.workos.parsing import is_text, is_usable_id, workos_id_of

#: ``WorkOS-Signature``: the time in milliseconds, and an HMAC-SHA256 of time and body.
_SIGNATURE = re.compile(r"t=([0-9]{1,20}), v1=([0-9a-f]{64})")

#: The SDK accepts a webhook so long before and after it was signed. In milliseconds.
_TOLERANCE = 180_000


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is kept of a webhook: that an event exists. Its content is never applied."""

    id: str
    """The event's id, or a hash of one that is too long to be a key."""
    type: str
    workos_id: str | None


def is_well_formed_signature(signature: str) -> bool:
    """Return True if the header looks like one of WorkOS's, whoever made it."""
    return _SIGNATURE.fullmatch(signature) is not None


def is_signed(body: bytes, signature: str, secrets: Iterable[str]) -> bool:
    """Return True if ``body`` was signed with one of ``secrets``, in the last three minutes.

    Not by the SDK: it takes the body for text, and raises for some signatures.
    """
    match = _SIGNATURE.fullmatch(signature)
    if match is None or abs(time.time() * 1000 - int(match[1])) > _TOLERANCE:
        return False
    signed = match[1].encode() + b"." + body
    return any(
        hmac.compare_digest(match[2], hmac.new(secret.encode(), signed, sha256).hexdigest())
        for secret in secrets
    )


def parse_announcement(body: bytes) -> Announcement | None:
    """Return the event that a signed webhook announces, or None if it announces none."""
    try:
        raw = tolerant_json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict):
        return None
    event_id, event_type = raw.get("id"), raw.get("event")
    if not (is_text(event_id) and is_text(event_type)):
        return None
    key = event_id if is_usable_id(event_id) else content_id(event_id.encode())
    return Announcement(key, event_type, workos_id_of(raw))
