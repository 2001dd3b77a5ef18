"""Receives webhooks: one ledger row and at most one enqueued drain for each new event."""

import logging
from enum import StrEnum

from django.db import Error as DatabaseError

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import sql
from orgs.db.errors import describe
from orgs.db.leases import note_enqueued
from orgs.db.transactions import bounded_transaction, execute_alone
from orgs.domain.resources import event_types
from orgs.services.maintenance import refused_webhooks
from orgs.services.queue import SYNC_EVENTS, enqueue

logger = logging.getLogger(__name__)

#: A longer webhook is refused, unread.
MAX_BODY_BYTES = 1024 * 1024

#: Seconds for a lock: WorkOS wants its answer within five, and the web process its thread back.
_LONGEST_WAIT = 2.0

#: A drain that no worker has begun for so long is enqueued again by the next webhook.
_ENQUEUED_SECONDS = 10.0


class Receipt(StrEnum):
    """What a webhook turned out to be."""

    ACCEPTED = "accepted"
    NOT_CONFIGURED = "not configured"
    NOT_SIGNED = "not signed"
    NOT_AN_EVENT = "not an event"


def receive_webhook(body: bytes, signature: str) -> Receipt:
    """Note that an event exists, and enqueue a drain unless one is expected.

    Its content is never applied: only the stream is ordered. May be repeated and run concurrently;
    the ledger's key absorbs repeats. Raises ``django.db.Error`` if the database does not answer.
    """
    secrets = sync_settings().webhook_secrets
    if not secrets:
        return Receipt.NOT_CONFIGURED
    if not workos.is_signed(body, signature, secrets):
        if workos.is_well_formed_signature(signature):
            refused_webhooks.refuse()
        return Receipt.NOT_SIGNED
    announced = workos.parse_announcement(body)
    if announced is None or (event := announced.event) is None:
        return Receipt.NOT_AN_EVENT
    if event.type in event_types(sync_settings().resources):
        about = announced.workos_id, announced.workos_organization_id
        values = [event.id, event.type, announced.resource, *about]
        # True if this was the first webhook of an event that is still unseen.
        if (True,) in execute_alone(sql.ANNOUNCE_EVENT, values, at_most=_LONGEST_WAIT):
            _enqueue_unless_expected()
    refused_webhooks.accept()
    return Receipt.ACCEPTED


def _enqueue_unless_expected() -> None:
    # After the commit above: a drain that this look still finds waiting looks once more after it
    # has released its lease, and will see the row. Of a burst of webhooks one enqueues: each task
    # is a drain that reads the stream.
    try:
        if note_enqueued(_ENQUEUED_SECONDS, at_most=_LONGEST_WAIT):
            with bounded_transaction(at_most=_LONGEST_WAIT):
                enqueue(SYNC_EVENTS)
    except DatabaseError as error:
        said = describe(error)
        logger.error("a webhook enqueued no drain; the minute schedule will: %s", said)  # noqa: TRY400
