"""Whatever happens in WorkOS and here, in any order, the mirror ends where a small model says.

Hypothesis makes the history up: organizations are created, changed and deleted, with and without
their events; drains, replays, reconciles and write-backs run whole, in part, late and twice; other
programs write the table. The model (``history``) knows nothing of how any of that is done. For the
other resources, see ``test_resources_convergence``.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

import pytest
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

import orgs.workos as edge
from orgs.conf import sync_settings
from orgs.db.cursor import database_now, read_cursor
from orgs.domain.types import ObjectPage, Outcome, Page, Position
from orgs.models import ExternalIdWriteBack, Organization, WorkOSConflict, WorkOSEvent
from orgs.services import outbox
from orgs.services.apply import Mode
from orgs.services.compare import Comparison, DisableLimit, Run
from orgs.services.lookups import Lookups
from orgs.services.outbox import push_due
from orgs.services.pages import CursorLost
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.services.stream import UnknownEvent, drain_to_end, replay
from orgs.testing import FakeWorkOS, Refused
from orgs.testing.messages import Answer, Request
from orgs.testing.server import Server
from tests.builders import TYPES, an_announcement, an_organization_row, apply_page, empty_tables
from tests.history import (
    History,
    Organizations,
    Row,
    behind_the_stream,
    conflicts,
    differences,
    missteps,
)
from tests.moved_clock import moved_clock
from tests.triggers import execute

#: Few, so that they meet; two of them slugify alike.
NAMES: Final = ("Acme", "acme!", "Bolt")
GRAM_IDS: Final = ("gram-a", "gram-b")

#: An organization that nobody changes: by it, an absence of another one can be proven.
ANCHOR: Final = "gram-anchor"

_AN_HOUR: Final = 3_600.0
_TWO_HOURS: Final = 2 * _AN_HOUR
_MOST_RUNS: Final = 3

_EXAMPLES: Final = 40
_STEPS: Final = 25

names = st.sampled_from(NAMES)
external_ids = st.sampled_from((None, *GRAM_IDS))
#: Within a millisecond or so, within the hold-back window, and long after it.
pauses = st.sampled_from((0.0, 0.0, 1.0, _TWO_HOURS))
#: How a change becomes known: by a listed event, by a webhook, by both, or by nothing.
ways = st.sampled_from(("listed", "listed", "listed, announced", "announced", "silent"))
changes = st.sampled_from(("rename", "disable", "enable", "unlink", "change the slug", "delete"))
page_sizes = st.integers(1, 4)

Created = MultipleResults[str]
Listing = tuple[datetime, ObjectPage]


class World(RuleBasedStateMachine):
    """WorkOS and Gram, each with its own writers, and the sync between them."""

    organizations = Bundle("organizations")
    pages = Bundle("pages")
    listings = Bundle("listings")

    workos: ClassVar[FakeWorkOS]
    move_clock: ClassVar[Callable[[float], None]]

    def __init__(self) -> None:
        super().__init__()
        empty_tables()
        type(self).workos = FakeWorkOS()
        self.history = History()
        self.created = self.never_listed = 0
        self.elapsed = 0.0
        self._wait(0.0)

    # In WorkOS ------------------------------------------------------------------------------

    @initialize(target=organizations, first=external_ids, second=external_ids)
    def begin(self, first: str | None, second: str | None) -> Created:
        """There is something to be old, late and repeated already."""
        self._create("Anchor", ANCHOR)
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
        with suppress(Refused), self._announcing(way, workos_id) as emits:
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
        """An organization loses its ``external_id``, and a new one gets it."""
        organization = self.workos.organization(workos_id)
        if organization is None or organization["external_id"] is None:
            return multiple()
        self.move_an_external_id(workos_id, None, pause)
        return multiple(*self._create(name, organization["external_id"]))

    @rule(workos_id=organizations, way=ways, pause=pauses)
    def delete(self, workos_id: str, way: str, pause: float) -> None:
        self._wait(pause)
        self.history.note_ids(self._there())
        with suppress(Refused), self._announcing(way, workos_id) as emits:
            self.workos.delete_organization(workos_id, emits=emits)
            self.history.deleted.add(workos_id)

    @rule(are_lost=st.sampled_from((False, False, False, True)))
    def wait_long(self, are_lost: bool) -> None:
        """Longer than WorkOS keeps events, perhaps."""
        self._wait(_TWO_HOURS)
        if are_lost:
            self.workos.expire_events()
            self.history.unlisted |= self.history.claims.keys()

    # The stream -----------------------------------------------------------------------------

    @rule()
    def drain(self) -> None:
        with suppress(CursorLost):
            with self._syncing():
                drain_to_end()
            _none_of(behind_the_stream(self.history, _rows(), self._there()))

    @rule(target=pages, size=page_sizes, back=st.integers(0, 3))
    def read_a_page(self, size: int, back: int) -> MultipleResults[Page[Position]]:
        """As a slow drain or replay does: after the position, or after one of the last events."""
        with suppress(edge.Refused, IndexError):
            position = self._events_back(back) if back else read_cursor().position
            return multiple(edge.read_events(position, types=TYPES, limit=size))
        return multiple()

    @rule(page=pages, is_replay=st.booleans())
    def apply_a_page_late(self, page: Page[Position], is_replay: bool) -> None:
        with self._syncing():
            apply_page(page, Mode.REPLAY if is_replay else Mode.LIVE)

    @rule(back=st.integers(1, 6))
    def replay(self, back: int) -> None:
        with suppress(UnknownEvent, IndexError), self._syncing():
            replay(self._events_back(back))

    # Reconcile ------------------------------------------------------------------------------

    @rule(drains=st.booleans())
    def reconcile(self, drains: bool) -> None:
        with self._syncing():
            reconcile(_RUN, drain_events=drains)

    @rule(workos_id=organizations)
    def reconcile_one(self, workos_id: str) -> None:
        with suppress(UnknownOrganization), self._syncing():
            reconcile_organizations(_RUN, [workos_id])

    @rule(target=listings)
    def list_organizations(self) -> Listing:
        window = timedelta(seconds=sync_settings().hold_back_window)
        return database_now() - window, edge.read_organizations(None)

    @rule(listing=listings)
    def compare_a_listing_late(self, listing: Listing) -> None:
        recent_after, page = listing
        with self._syncing():
            Comparison(_RUN, Lookups(), recent_after=recent_after).compare(page.observations)

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
        for id_ in sorted(_rows().keys() - {ANCHOR})[number : number + 1]:
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
                    execute("DELETE FROM organization_metadata WHERE id = %s", id_)
                    self.history.note_replaced(id_)

    # The end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # What has failed already is not to be hidden by what follows from it.
        self._wait(_TWO_HOURS)
        self.history.note_ids(self._there())
        assert any(self._is_in_sync() for _ in range(_MOST_RUNS)), "it never was in sync"
        _none_of(differences(self.history, _rows(), self._there()))
        stored = WorkOSConflict.objects.values_list("workos_organization_id", flat=True)
        assert set(stored) == conflicts(_rows(), self._there())
        assert not ExternalIdWriteBack.objects.filter(next_attempt_at__isnull=False).exists()

    def _is_in_sync(self) -> bool:
        self._wait(_AN_HOUR)
        with self._syncing():
            return reconcile(_RUN).in_sync

    # Below ----------------------------------------------------------------------------------

    def _create(self, name: str, external_id: str | None, way: str = "listed") -> Sequence[str]:
        """The new organization's id; none if the ``external_id`` is taken."""
        workos_id = f"org_{self.created}"
        try:
            with self._announcing(way, workos_id) as emits:
                self.workos.create_organization(
                    id=workos_id, name=name, external_id=external_id, emits=emits
                )
        except Refused:
            return []
        self.created += 1
        self.history.note_created(workos_id, external_id)
        return [workos_id]

    @contextmanager
    def _announcing(self, way: str, workos_id: str) -> Iterator[bool]:
        """Around a change: yield whether it emits an event. An announcement is overdue at once."""
        yield way.startswith("listed")
        if way.startswith("listed"):
            event_id = self.workos.all_events()[-1]["id"]
        else:
            self.history.unlisted.add(workos_id)
            self.never_listed += 1
            event_id = f"event_never_listed_{self.never_listed}"
        if way.endswith("announced"):
            an_announcement(event_id, ago=timedelta(minutes=5), workos_id=workos_id)

    def _events_back(self, count: int) -> Position:
        """The position after the last event but so many; IndexError if there are fewer."""
        return Position(self.workos.all_events()[-count]["id"])

    def _wait(self, seconds: float) -> None:
        """For WorkOS and for PostgreSQL."""
        self.elapsed += seconds
        type(self).move_clock(self.elapsed)
        self.workos.set_clock_offset(self.elapsed)

    def _there(self) -> Organizations:
        return {one["id"]: one for one in self.workos.all_organizations()}

    @contextmanager
    def _syncing(self) -> Iterator[None]:
        """Around whatever the sync does: it must not do what it never may."""
        before, known = _rows(), _outcomes()
        yield
        _none_of(missteps(self.history, before, _rows(), self._there()))
        assert known.items() <= _outcomes().items()


_RUN = Run(limit=DisableLimit(rows=1_000))


def _none_of(problems: Iterator[str]) -> None:
    found = list(problems)
    assert not found, "\n".join(found)


def _rows() -> dict[str, Row]:
    return {row["id"]: Row(**row) for row in Organization.objects.values()}


def _outcomes() -> dict[str, str | None]:
    """Those that stay: all but that of a parked event."""
    entries = WorkOSEvent.objects.exclude(outcome__isnull=True).exclude(outcome=Outcome.PARKED)
    return dict(entries.values_list("id", "outcome"))


@pytest.fixture
def one_address_for_all(sync_setting: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where each history finds its own WorkOS: a client for each would take most of the time."""

    def respond(request: Request) -> Answer:
        return World.workos._respond(request)

    server = Server(0, respond)
    server.start()
    sync_setting(BASE_URL=f"http://127.0.0.1:{server.port}", API_KEY=FakeWorkOS().api_key)
    # The same history must go the same way twice: no races, and no pause that real time ends.
    monkeypatch.setattr(outbox, "_THREADS", 1)
    monkeypatch.setattr(outbox, "retry_delay", lambda _: _AN_HOUR)
    logging.disable()
    with moved_clock() as World.move_clock:
        yield
    logging.disable(logging.NOTSET)
    server.close()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("database", "one_address_for_all")
def test_any_history_ends_where_the_model_does() -> None:
    """To search further, raise ``max_examples`` and switch ``derandomize`` off by hand."""
    run_state_machine_as_test(
        World, settings=hypothesis_settings(max_examples=_EXAMPLES, stateful_step_count=_STEPS)
    )
