"""The cursor: where the mirror stands in WorkOS's stream."""

from django.contrib import admin

from orgs.admin.base import ReadOnlyAdmin, moment
from orgs.models import SyncCursor


@admin.register(SyncCursor)
class SyncCursorAdmin(ReadOnlyAdmin[SyncCursor]):
    list_display = [
        "stream",
        "last_event_id",
        moment("last_event_at"),
        moment("drained_at"),
        moment("reconciled_at"),
        "failures",
        "last_error",
    ]
