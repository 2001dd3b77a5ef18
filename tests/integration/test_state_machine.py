"""Whatever happens in WorkOS and here, in any order, the mirror ends where a small model says.

Hypothesis makes the history up: organizations come, change and go, with and without their events;
drains, replays, snapshots and write-backs run whole, in part, late and twice; other programs write
the table. The model (``history``) knows nothing of how any of that is done.
"""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import pytest
from django.db import connection
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from orgs.db.cursor import standing
from orgs.domain.types import (
    Outcome,
    Position,
)
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services.apply import apply_page
from orgs.services.outbox import push_due
from orgs.services.reconcile import UnknownOrganization, reconcile, reconcile_organizations
from orgs.services.repair import DisableLimit, Run, SnapshotReport, compare_organizations
from orgs.services.stream import CursorLost, UnknownEvent, drain_to_end, replay
from orgs.testing import JsonObject, Refused, WorkOSStandIn
from orgs.testing.clock import to_milliseconds
from orgs.testing.messages import Answer, Request
from orgs.testing.server import Server
from orgs.workos import EventPage, OrganizationPage, close
from orgs.workos import client as edge
from tests.builders import an_announcement, an_organization_row
from tests.history import (
    History,
    Organizations,
    SeenRow,
    behind_the_stream,
    differences,
    missteps,
)
from tests.system.kill.scenarios import empty_tables, let_an_hour_pass

#: Few, so that they meet; two of them slugify alike.
NAMES: Final = ("Acme", "acme!", "Bolt")
GRAM_IDS: Final = ("gram-a", "gram-b")

_TWO_HOURS: Final = 7_200.0
_MOST_RUNS: Final = 3

_EXAMPLES: Final = 80
_STEPS: Final = 25

names = st.sampled_from(NAMES)
external_ids = st.sampled_from((None, *GRAM_IDS))
#: Within a millisecond or so, within the hold-back window, and long after it.
pauses = st.sampled_from((0.0, 0.0, 1.0, _TWO_HOURS))
#: How a change is told: by an event that is listed, by a webhook, by both, or by nothing.
ways = st.sampled_from(("listed", "listed", "listed, announced", "announced", "untold"))
changes = st.sampled_from(("rename", "disable", "enable", "unlink", "change the slug", "delete"))
page_sizes = st.integers(1, 4)

Created = MultipleResults[str]


class World(RuleBasedStateMachine):
    """WorkOS and Gram, each with its own writers, and the sync between them."""

    organizations = Bundle("organizations")
    pages = Bundle("pages")
    listings = Bundle("listings")

    workos: ClassVar[WorkOSStandIn]

    def __init__(self) -> None:
        super().__init__()
        empty_tables()
        type(self).workos = WorkOSStandIn()
        self.history = History()
        self.created = self.never_listed = 0
        self.elapsed = 0.0

    # In WorkOS ------------------------------------------------------------------------------

    @initialize(target=organizations, first=external_ids, second=external_ids)
    def begin(self, first: str | None, second: str | None) -> Created:
        """There is something to be old, late and repeated already."""
        created = [*self._create("Bolt", first), *self._create("Bolt", second)]
        for workos_id in created:
            self.rename(workos_id, "Acme", "listed", 1.0)
        self.drain()
        return multiple(*created)

    @rule(target=organizations, name=names, external_id=external_ids, way=ways, pause=pauses)
    def create(self, name: str, external_id: str | None, way: str, pause: float) -> Created:
        self._wait(pause)
        return multiple(*self._create(name, external_id, way))

    @rule(workos_id=organizations, name=names, way=ways, pause=pauses)
    def rename(self, workos_id: str, name: str, way: str, pause: float) -> None:
        self._wait(pause)
        with suppress(Refused), self._telling(way, workos_id) as emits:
            self.workos.update_organization(workos_id, name=name, emits=emits)

    @rule(workos_id=organizations, external_id=external_ids, pause=pauses)
    def move_an_external_id(self, workos_id: str, external_id: str | None, pause: float) -> None:
        self._wait(pause)
        self.history.note_ids(self._there())
        with suppress(Refused):
            self.workos.update_organization(workos_id, external_id=external_id)
            self.history.contested.add(workos_id)
            self.history.note_ids(self._there())

    @rule(target=organizations, workos_id=organizations, name=names, pause=pauses)
    def hand_over(self, workos_id: str, name: str, pause: float) -> Created:
        """An organization lets go of its ``external_id``, and a new one takes it."""
        organization = self.workos.organization(workos_id)
        if organization is None or organization["external_id"] is None:
            return multiple()
        self.move_an_external_id(workos_id, None, pause)
        return multiple(*self._create(name, organization["external_id"]))

    @rule(workos_id=organizations, way=ways, pause=pauses)
    def delete(self, workos_id: str, way: str, pause: float) -> None:
        self._wait(pause)
        self.history.note_ids(self._there())
        with suppress(Refused), self._telling(way, workos_id) as emits:
            self.workos.delete_organization(workos_id, emits=emits)
            self.history.gone.add(workos_id)

    @rule(
        target=organizations,
        name=names,
        external_id=external_ids,
        deletes=st.booleans(),
        swaps=st.booleans(),
    )
    def create_and_change_at_once(
        self, name: str, external_id: str | None, deletes: bool, swaps: bool
    ) -> Created:
        """Two events of one millisecond, which WorkOS may list either way round."""
        self._wait(1.0)
        for workos_id in self._create(name, external_id, "untold"):
            self.history.untold.remove(workos_id)
            created = dict(self._there()[workos_id])
            if deletes:
                second = ("deleted", created)
                self.workos.delete_organization(workos_id, emits=False)
                self.history.gone.add(workos_id)
            else:
                changed = self.workos.update_organization(workos_id, name="Bolt", emits=False)
                second = ("updated", changed)
            self._emit_at_once([("created", created), second], swaps=swaps)
            return multiple(workos_id)
        return multiple()

    @rule(are_lost=st.sampled_from((False, False, False, True)))
    def wait_long(self, are_lost: bool) -> None:
        """Longer than WorkOS keeps events, perhaps."""
        self._wait(_TWO_HOURS)
        if are_lost:
            self.workos.expire_events()
            self.history.untold |= self.history.claims.keys()

    # The stream -----------------------------------------------------------------------------

    @rule()
    def drain(self) -> None:
        with suppress(CursorLost):
            with self._syncing():
                drain_to_end()
            _none_of(behind_the_stream(self.history, _rows(), self._there()))

    @rule(target=pages, size=page_sizes)
    def drain_a_page(self, size: int) -> MultipleResults[EventPage]:
        with suppress(edge.Refused), self._syncing():
            page = edge.read_events(standing().position, limit=size)
            apply_page(page)
            return multiple(page)
        return multiple()

    @rule(target=pages, size=page_sizes, back=st.integers(0, 3))
    def read_a_page(self, size: int, back: int) -> MultipleResults[EventPage]:
        """As a slow drain or replay does: after the position, or after one of the last events."""
        with suppress(edge.Refused, IndexError):
            position = self._events_back(back) if back else standing().position
            return multiple(edge.read_events(position, limit=size))
        return multiple()

    @rule(page=pages, is_replay=st.booleans())
    def apply_a_page_late(self, page: EventPage, is_replay: bool) -> None:
        with self._syncing():
            apply_page(page, replay=is_replay)

    @rule(size=page_sizes, back=st.integers(1, 6))
    def replay_a_page(self, size: int, back: int) -> None:
        """A replay that goes no further."""
        with suppress(edge.Refused, IndexError), self._syncing():
            apply_page(edge.read_events(self._events_back(back), limit=size), replay=True)

    @rule(back=st.integers(1, 6))
    def replay(self, back: int) -> None:
        with suppress(UnknownEvent, IndexError), self._syncing():
            replay(self._events_back(back))

    # Snapshots ------------------------------------------------------------------------------

    @rule(drains=st.booleans())
    def reconcile(self, drains: bool) -> None:
        with self._syncing():
            reconcile(self._run(), drain_events=drains)

    @rule(workos_id=organizations)
    def reconcile_one(self, workos_id: str) -> None:
        with suppress(UnknownOrganization), self._syncing():
            reconcile_organizations(self._run(), [workos_id])

    @rule(target=listings)
    def list_organizations(self) -> tuple[Run, OrganizationPage]:
        return self._run(), edge.read_organizations(None)

    @rule(listing=listings)
    def compare_a_listing_late(self, listing: tuple[Run, OrganizationPage]) -> None:
        run, page = listing
        with self._syncing():
            report = SnapshotReport()
            compare_organizations(run, report, page.organizations, young_after=run.young_after)

    # Write-backs ----------------------------------------------------------------------------

    @rule(fails=st.booleans(), applied=st.booleans())
    def push(self, fails: bool, applied: bool) -> None:
        """If it fails, WorkOS may have done what it was asked for."""
        if fails:
            self.workos.misbehave(
                "status", status=503, method="PUT", path=None, applied=applied, times=1
            )
        with self._syncing():
            push_due(deadline=math.inf)
        self.workos.behave()

    # Other programs -------------------------------------------------------------------------

    @rule(id_=st.sampled_from((*GRAM_IDS, "gram-c")), name=names)
    def insert_a_row(self, id_: str, name: str) -> None:
        rows, slug = _rows(), name.strip("!").lower()
        if id_ not in rows and slug not in {row.slug for row in rows.values()}:
            an_organization_row(id_, name=name, slug=slug, gram_account_type="pro")
            self.history.note_replaced(id_)

    @rule(number=st.integers(0, 3), change=changes)
    def change_a_row(self, number: int, change: str) -> None:
        for id_ in sorted(_rows())[number : number + 1]:
            row = Organization.objects.filter(id=id_)
            self.history.note_written(id_)
            match change:
                case "rename":
                    row.update(name="Drifted")
                case "disable":
                    row.update(disabled_at=datetime.now(UTC))
                    self.history.note_written(id_, disabled=True)
                case "enable":
                    row.update(disabled_at=None)
                    self.history.note_written(id_, disabled=False)
                case "unlink":
                    row.update(workos_id=None)
                case "change the slug":
                    row.update(slug=f"slug-of-{id_}", whitelisted=False)
                case "delete":
                    _delete_row(id_)
                    self.history.note_replaced(id_)

    # The end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # What has failed already is not to be hidden by what follows from it.
        self._wait(_TWO_HOURS)
        self.history.note_ids(self._there())
        assert any(self._is_in_sync() for _ in range(_MOST_RUNS)), "it never was in sync"
        _none_of(differences(self.history, _rows(), self._there()))
        assert not ExternalIdWriteBack.objects.filter(next_attempt_at__isnull=False).exists()

    def _is_in_sync(self) -> bool:
        let_an_hour_pass()
        with self._syncing():
            return reconcile(self._run()).in_sync

    # Below ----------------------------------------------------------------------------------

    def _create(self, name: str, external_id: str | None, way: str = "listed") -> Sequence[str]:
        """The new organization's id; none if the ``external_id`` is taken."""
        workos_id = f"org_{self.created}"
        try:
            with self._telling(way, workos_id) as emits:
                self.workos.create_organization(
                    id=workos_id, name=name, external_id=external_id, emits=emits
                )
        except Refused:
            return []
        self.created += 1
        self.history.note_created(workos_id, external_id)
        return [workos_id]

    @contextmanager
    def _telling(self, way: str, workos_id: str) -> Iterator[bool]:
        """Around a change: whether it emits an event. What is announced is overdue at once."""
        yield way.startswith("listed")
        if way.startswith("listed"):
            event_id = self.workos.all_events()[-1]["id"]
        else:
            self.history.untold.add(workos_id)
            self.never_listed += 1
            event_id = f"event_never_listed_{self.never_listed}"
        if way.endswith("announced"):
            an_announcement(event_id, ago=timedelta(minutes=5), workos_id=workos_id)

    def _emit_at_once(self, told: Sequence[tuple[str, JsonObject]], *, swaps: bool) -> None:
        moment = told[0][1]["created_at"]
        ulids = self.workos._state._ulids
        events = [
            {
                "id": f"event_{ulids.make(to_milliseconds(moment))}",
                "event": f"organization.{verb}",
                "created_at": moment,
                "data": organization,
            }
            for verb, organization in told
        ]
        for event in reversed(events) if swaps else events:
            self.workos.emit(event)

    def _events_back(self, count: int) -> Position:
        """The position after the last event but so many; IndexError if there are fewer."""
        return Position(self.workos.all_events()[-count]["id"])

    def _wait(self, seconds: float) -> None:
        self.elapsed += seconds
        self.workos.set_clock_offset(self.elapsed)

    def _there(self) -> Organizations:
        return {
            organization["id"]: organization for organization in self.workos.all_organizations()
        }

    def _run(self) -> Run:
        now = datetime.now(UTC) + timedelta(seconds=self.elapsed)
        return Run(now=now, limit=DisableLimit(rows=1_000))

    @contextmanager
    def _syncing(self) -> Iterator[None]:
        """Around whatever the sync does: it must not do what it never may."""
        before, known = _rows(), _outcomes()
        yield
        _none_of(missteps(self.history, before, _rows(), self._there()))
        assert known.items() <= _outcomes().items()


def _none_of(problems: Iterator[str]) -> None:
    told = list(problems)
    assert not told, "\n".join(told)


def _rows() -> dict[str, SeenRow]:
    rows = Organization.objects.values(*SeenRow.__dataclass_fields__)
    return {row["id"]: SeenRow(**row) for row in rows}


def _outcomes() -> dict[str, str | None]:
    """Those that stay: all but that of a parked event."""
    entries = WorkOSEvent.objects.exclude(outcome__isnull=True).exclude(outcome=Outcome.PARKED)
    return dict(entries.values_list("id", "outcome"))


def _delete_row(id_: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM organization_metadata WHERE id = %s", [id_])


@pytest.fixture
def one_address_for_all(settings: Settings) -> Iterator[None]:
    """Where each history's own WorkOS is found: a client for each would cost most of the time."""

    def respond(request: Request) -> Answer:
        return World.workos._respond(request)

    server = Server(0, respond)
    server.start()
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, "BASE_URL": f"http://127.0.0.1:{server.port}"}
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    server.close()
    close()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("without_waiting_for_the_disk", "one_address_for_all")
def test_any_history_ends_where_the_model_does() -> None:
    """Raise ``max_examples``, and leave ``derandomize`` to the search for more, by hand."""
    run_state_machine_as_test(
        World, settings=hypothesis_settings(max_examples=_EXAMPLES, stateful_step_count=_STEPS)
    )
