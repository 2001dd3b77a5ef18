"""What other apps of the project can listen to.

Those of organizations are sent after the commit, with ``sender=Organization``, ``organization_id``
(Gram's) and ``workos_id``, once for each row that changed so in a transaction: a page of events
that renames an organization twice updates it once. The row may have changed again by the time: read
it.

A receiver's exception is logged, by Django's ``django.dispatch``, and stops nothing. A receiver
that takes long keeps the sync waiting: enqueue a task. Killed between the commit and the sending, a
process sends nothing: what must not be missed belongs in a receiver of ``changes_applied``.
"""

from typing import Final

from django.dispatch import Signal

#: A row was inserted.
organization_created: Final = Signal()

#: A row got another name, or its first link to an organization of WorkOS's.
organization_updated: Final = Signal()

#: A row was linked to another organization of WorkOS's than before.
organization_relinked: Final = Signal()

#: A row was disabled: WorkOS deleted its organization, or a person disabled it here.
organization_disabled: Final = Signal()

#: A row that was disabled was enabled by a person: the sync never does that by itself.
organization_enabled: Final = Signal()

#: An object of another resource was created, updated or deleted. Sent after the commit, with
#: ``sender`` the model, ``key``, ``workos_organization_id`` and ``change``.
resource_changed: Final = Signal()

#: Sent once a page **inside** the transaction, in a savepoint, with ``changes``: a tuple of
#: ``orgs.domain.report.Change``, organizations and other resources, in the order they were decided.
#: For what must never be missed, such as grants in the same database. What a receiver writes is
#: committed with the page, or not at all. If it raises, the item is found and parked (events) or
#: reported as failed (lists). Keep it short: the cursor is locked meanwhile. Never in a dry run.
changes_applied: Final = Signal()

__all__ = [
    "changes_applied",
    "organization_created",
    "organization_disabled",
    "organization_enabled",
    "organization_relinked",
    "organization_updated",
    "resource_changed",
]
