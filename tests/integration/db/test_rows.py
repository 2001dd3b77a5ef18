"""What is loaded of rows, and which of them PostgreSQL finds in sync with a list."""

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from django.db import connection, transaction

from orgs.db.rows import ids_in_sync, load
from orgs.domain.types import Observation, Outcome
from orgs.models import ExternalIdWriteBack, Organization, WorkOSConflict
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from tests.builders import NOON, an_absence, an_organization, an_organization_row, minutes

pytestmark = pytest.mark.usefixtures("database")

#: Each way in which each column can be, beside what WorkOS lists; the first is in sync.
WAYS: dict[str, list[Any]] = {
    "external_id": ["same", "other", None],
    "name": ["Acme", "Other"],
    "link": ["same", "other", None],
    "updated_at": [None, NOON - minutes(1), NOON, NOON + minutes(1)],
    "disabled_at": [None, NOON],
    "deleted_at": [None, NOON],
    "waits": [None, "write-back", "conflict"],
}


def every_way() -> tuple[list[Observation], set[str]]:
    """What is listed of rows in every combination, and which of them are in sync."""
    rows, write_backs, conflicts, listed, in_sync = [], [], [], [], set()
    for number, values in enumerate(product(*WAYS.values())):
        way = dict(zip(WAYS, values, strict=True))
        id_, workos_id = f"gram-{number}", f"org_{number}"
        row = Organization(id=id_, slug=id_, name="Acme", workos_updated_at=way["updated_at"])
        row.workos_id = {"same": workos_id, "other": f"{workos_id}_b", None: None}[way["link"]]
        row.disabled_at, row.workos_deleted_at = way["disabled_at"], way["deleted_at"]
        rows.append(row)
        if way["waits"] == "write-back":
            write_backs.append(ExternalIdWriteBack(organization_id=id_, workos_id=workos_id))
        if way["waits"] == "conflict":
            conflicts.append(WorkOSConflict(workos_organization_id=workos_id))
        external_id = {"same": id_, "other": f"{id_}-b", None: None}[way["external_id"]]
        listed.append(an_organization(workos_id, name=way["name"], external_id=external_id))
        same = dict(way, updated_at=None) == {key: first for key, (first, *_) in WAYS.items()}
        if same and way["updated_at"] in (None, NOON - minutes(1), NOON):
            in_sync.add(workos_id)
    Organization.objects.bulk_create(rows)
    ExternalIdWriteBack.objects.bulk_create(write_backs)
    WorkOSConflict.objects.bulk_create(conflicts)
    return listed, in_sync


def test_in_sync_is_what_nothing_is_to_be_written_or_reported_of() -> None:
    listed, in_sync = every_way()

    found = ids_in_sync(listed)
    compared = apply(Batch(observations=[o for o in listed if o.workos_id in found]), Mode.DRY_RUN)

    assert found == in_sync
    assert len(found) == 3
    assert +compared.counts == {Outcome.UNCHANGED: 3}
    assert not compared.needs_writing


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (None, None),
        ("2026-01-15 12:00:00.123456+00", datetime(2026, 1, 15, 12, 0, 0, 123456, tzinfo=UTC)),
        # A clock that was wrong: everything would be older.
        ("infinity", None),
        ("2999-01-01 00:00+00", None),
        ("-infinity", datetime(1, 1, 2, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_the_nearest_there_is(stored: str | None, read: datetime | None) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE organization_metadata SET workos_updated_at = %s", [stored])

    with transaction.atomic():
        (row,) = load([an_absence()], lock=False).rows

    assert row.workos_updated_at == read
