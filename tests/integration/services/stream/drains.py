"""What is stored, enqueued and logged after a drain."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest
from django_q.models import OrmQ

from orgs.models import Organization, SyncCursor
from orgs.services.coverage import prepare_to_read
from orgs.services.stream import DrainReport

Setting: TypeAlias = Callable[..., None]


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


def set_cursor(**values: Any) -> None:
    prepare_to_read()
    SyncCursor.objects.update(**values)


def is_waiting() -> bool:
    return SyncCursor.objects.filter(draining_until__isnull=False).exists()


def from_now(**values: float) -> datetime:
    return datetime.now(UTC) + timedelta(**values)


def enqueued() -> list[str]:
    return [queued.func() for queued in OrmQ.objects.order_by("id")]


def names() -> list[str]:
    return sorted(Organization.objects.values_list("name", flat=True))


def problems(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.levelname != "INFO"]


def read(report: DrainReport) -> int:
    return report.counts.total()
