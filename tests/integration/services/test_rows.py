"""What PostgreSQL says of a page, beside what a comparison row by row says."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from django.db import NotSupportedError, OperationalError, connection
from orgs.domain.drift import Comparison, compare

from orgs.db.rows import ids_in_sync, load_rows, pending_write_backs
from orgs.domain.resolution import RemoteOrganization, touched_ids
from orgs.models import ExternalIdWriteBack
from tests.builders import NOON, an_organization, an_organization_row

pytestmark = pytest.mark.usefixtures("database")


@dataclass(frozen=True, slots=True)
class Case:
    """An organization, its row, and what differs between them."""

    organization: RemoteOrganization
    differs: bool


def cases() -> Iterator[Case]:
    """Each way in which each column can stand, with each of the others; their rows are there."""
    ways = product(
        ("same", "other", "none"),  # external_id
        ("same", "other"),  # name
        ("same", "other", "none"),  # link
        (None, NOON - timedelta(1), NOON, NOON + timedelta(1)),  # workos_updated_at
        (None, NOON),  # disabled_at
        (False, True),  # whether a write-back is due
    )
    for number, (external_id, name, link, updated_at, disabled_at, is_due) in enumerate(ways):
        row_id, workos_id = f"gram-{number}", f"org_{number}"
        links = {"same": workos_id, "other": f"org_{number}_b", "none": None}
        an_organization_row(
            row_id,
            workos_id=links[link],
            workos_updated_at=updated_at,
            disabled_at=disabled_at,
        )
        if is_due:
            ExternalIdWriteBack.objects.create(organization_id=row_id, workos_id=workos_id)
        external_ids = {"same": row_id, "other": f"{row_id}-b", "none": None}
        yield Case(
            an_organization(
                workos_id=workos_id,
                name="Acme" if name == "same" else "Other",
                external_id=external_ids[external_id],
            ),
            differs=(external_id, name, link) != ("same", "same", "same")
            or is_newer(updated_at)
            or disabled_at is not None
            or is_due,
        )


def is_newer(updated_at: datetime | None) -> bool:
    return updated_at is not None and updated_at > NOON


def compared_alone(organization: RemoteOrganization) -> Comparison:
    rows = load_rows({organization.workos_id}, touched_ids([organization]))
    return compare(rows, [organization], pending=pending_write_backs(row.id for row in rows))


def test_in_sync_is_what_differs_in_nothing() -> None:
    every = list(cases())

    in_sync = ids_in_sync([case.organization for case in every])

    assert in_sync == {case.organization.workos_id for case in every if not case.differs}
    assert len(in_sync) == 3


def test_a_comparison_row_by_row_finds_nothing_in_those_in_sync() -> None:
    organizations = {case.organization.workos_id: case.organization for case in cases()}

    for workos_id in ids_in_sync(organizations.values()):
        comparison = compared_alone(organizations[workos_id])

        assert comparison.plan.is_empty
        assert {key: count for key, count in comparison.counts.items() if count} == {"unchanged": 1}


def test_of_no_organization_none_is_in_sync() -> None:
    assert ids_in_sync([]) == set()


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (None, None),
        ("2026-01-15 12:00:00.123456+00", datetime(2026, 1, 15, 12, 0, 0, 123456, tzinfo=UTC)),
        ("infinity", datetime(9999, 12, 30, tzinfo=UTC)),
        ("-infinity", datetime(1, 1, 2, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_it_is_or_as_the_nearest_that_python_has(
    stored: str | None, read: datetime | None
) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE organization_metadata SET workos_updated_at = %s", [stored])

    (row,) = load_rows(["org_1"], [])

    assert row.workos_updated_at == read
    with connection.cursor() as cursor:
        cursor.execute("UPDATE organization_metadata SET workos_updated_at = NULL")


@pytest.fixture
def names_without_case(database: None) -> Iterator[None]:
    """A table that was there before, whose column holds two names for one. Needs ICU, which the
    embedded PostgreSQL is built without."""
    make = (
        "CREATE COLLATION caseless "
        "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    )
    with connection.cursor() as cursor:
        try:
            cursor.execute(make)
        except (NotSupportedError, OperationalError) as missing:
            pytest.skip(str(missing))
        cursor.execute("ALTER TABLE organization_metadata ALTER name TYPE text COLLATE caseless")
        yield
        cursor.execute('ALTER TABLE organization_metadata ALTER name TYPE text COLLATE "default"')
        cursor.execute("DROP COLLATION caseless")


@pytest.mark.usefixtures("names_without_case")
def test_another_case_is_another_name_whatever_the_columns_collation() -> None:
    an_organization_row("gram-1", workos_id="org_1", name="acme")

    assert ids_in_sync([an_organization(external_id="gram-1", name="ACME")]) == set()
    assert ids_in_sync([an_organization(external_id="gram-1", name="acme")]) == {"org_1"}
