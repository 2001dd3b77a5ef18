"""Receives webhooks: one ledger row and one possible ring for each new event."""

import logging
from enum import StrEnum

from django.db import Error as DatabaseError

from orgs.conf import sync_settings
from orgs.db import sql
from orgs.db.cursor import Lease, ensure_cursor, is_drain_coming
from orgs.db.transactions import bounded_transaction, execute_alone
from orgs.services.queue import SYNC_EVENTS, ring
from orgs.workos import client as workos

logger = logging.getLogger(__name__)

#: Seconds for a lock: WorkOS wants its answer within five, and the web process its thread back.
_LONGEST_WAIT = 2.0

#: A ring that no worker has heard for so long is repeated by the next webhook.
_RING_SECONDS = 10.0


class Receipt(StrEnum):
    """What a webhook turned out to be."""

    TAKEN = "taken"
    NOT_CONFIGURED = "not configured"
    NOT_SIGNED = "not signed"
    NOT_AN_EVENT = "not an event"


def receive_webhook(body: bytes, signature: str) -> Receipt:
    """Notes that an event exists, and rings for it unless a drain is already coming.

    Its content is never applied: only the stream is ordered. May be repeated and run concurrently;
    the ledger's key absorbs repeats. Raises ``django.db.Error`` if there is no database.
    """
    secrets = sync_settings().webhook_secrets
    if not secrets:
        return Receipt.NOT_CONFIGURED
    if not workos.is_signed(body, signature, secrets):
        return Receipt.NOT_SIGNED
    announcement = workos.parse_announcement(body)
    if announcement is None:
        return Receipt.NOT_AN_EVENT
    if announcement.type in workos.FOLLOWED_TYPES and _announce(announcement):
        _ring_unless_a_drain_comes()
    return Receipt.TAKEN


def _announce(announcement: workos.Announcement) -> bool:
    """Whether this was the first webhook of an event that the stream has not brought yet."""
    values = [announcement.id, announcement.type, announcement.workos_id]
    rows = execute_alone(sql.ANNOUNCE_EVENT, values, most=_LONGEST_WAIT)
    return any(is_unseen for (is_unseen,) in rows)


def _ring_unless_a_drain_comes() -> None:
    # After the commit above: a holder that this look still sees looks once more after it has
    # cleared its lease, and will see the row.
    try:
        if not is_drain_coming(most=_LONGEST_WAIT) and _is_first_to_ring():
            with bounded_transaction(most=_LONGEST_WAIT):
                ring(SYNC_EVENTS)
    except DatabaseError:
        logger.exception("could not ring for a webhook; the minute schedule will")


def _is_first_to_ring() -> bool:
    """Of a burst of webhooks one rings: each ring is a drain that reads the stream."""
    ensure_cursor()
    return Lease.RING.take(_RING_SECONDS, most=_LONGEST_WAIT) is not None
