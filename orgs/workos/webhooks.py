"""Verifies webhooks, and reads which event they announce. Never raises, whatever was sent."""

import hmac
import re
import time
from collections.abc import Iterable
from hashlib import sha256

from orgs.domain.types import Observation
from orgs.workos import tolerant_json
from orgs.workos.parsing import is_text, parse_event

#: ``WorkOS-Signature``: the time in milliseconds, and an HMAC-SHA256 of time and body.
_SIGNATURE = re.compile(r"t=([0-9]{1,20}), v1=([0-9a-f]{64})")

#: Milliseconds between the signature and now: as many as the SDK tolerates.
_TOLERANCE = 180_000


def is_well_formed_signature(signature: str) -> bool:
    """Return True if the header looks like one of WorkOS's, whoever made it."""
    return _SIGNATURE.fullmatch(signature) is not None


def is_signed(body: bytes, signature: str, secrets: Iterable[str]) -> bool:
    """Return True if ``body`` was signed with one of ``secrets`` within three minutes of now.

    The SDK's own check takes the body for text, and raises odd errors for odd signatures.
    """
    match = _SIGNATURE.fullmatch(signature)
    if match is None or abs(time.time() * 1000 - int(match[1])) > _TOLERANCE:
        return False
    signed = match[1].encode() + b"." + body
    macs = (hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets)
    return any(hmac.compare_digest(match[2], mac) for mac in macs)


def parse_announcement(body: bytes) -> Observation | None:
    """Return the event that a signed webhook announces, or None if it announces none.

    That it exists is all that counts, and what it is about: its content is never applied.
    """
    try:
        raw = tolerant_json.loads(body)
    except ValueError:
        return None
    if not (isinstance(raw, dict) and is_text(raw.get("id")) and is_text(raw.get("event"))):
        return None
    return parse_event(raw)
