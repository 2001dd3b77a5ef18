"""The sync status as a page shows it: what is wrong, what waits, and where to look at it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse

from orgs.admin.plots import events_plot, latency_plot
from orgs.domain.figures import Figures
from orgs.domain.status import Problem, ProblemCode, Severity, Status
from orgs.models import ORGANIZATIONS_STREAM


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the admin something can be looked at."""

    label: str
    model: str
    """The model's name, in lower case."""
    query: dict[str, str]

    @property
    def url(self) -> str:
        return reverse(f"admin:orgs_{self.model}_changelist", query=self.query)


UNSEEN = Place("Announced events", "workosevent", {"outcome": "unseen"})
PARKED = Place("Parked events", "workosevent", {"outcome": "parked"})
UNANNOUNCED = Place("Events without a webhook", "workosevent", {"webhook": "none"})
WAITING = Place("Waiting write-backs", "externalidwriteback", {"state": "waiting"})
CONFLICTS = Place("Conflicts", "externalidwriteback", {"state": "conflict"})

_PLACES = {
    ProblemCode.ANNOUNCEMENTS_OVERDUE: UNSEEN,
    ProblemCode.EVENTS_PARKED: PARKED,
    ProblemCode.WRITE_BACKS_FAILING: WAITING,
    ProblemCode.WRITE_BACK_CONFLICTS: CONFLICTS,
    ProblemCode.WEBHOOKS_ABSENT: UNANNOUNCED,
}


@dataclass(frozen=True, slots=True)
class ShownProblem:
    problem: Problem
    place: Place | None

    @property
    def is_error(self) -> bool:
        return self.problem.severity is Severity.ERROR


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of something, and where they can be looked at."""

    what: str
    count: int
    place: Place | None
    since: datetime | None = None
    is_wrong: bool = False


def page(status: Status, may_view: Callable[[str], bool]) -> dict[str, Any]:
    """What the page's template shows; places only if ``may_view`` their model."""

    def seen(place: Place | None) -> Place | None:
        return place if place is not None and may_view(place.model) else None

    context: dict[str, Any] = {
        "problems": [
            ShownProblem(problem, seen(_PLACES.get(problem.code))) for problem in status.problems
        ],
        "headline": headline(status),
        "figures": status.figures,
        "stream": ORGANIZATIONS_STREAM,
    }
    if status.figures is not None:
        figures = status.figures
        context |= {
            "waiting": [_seen(count, seen) for count in _waiting(figures)],
            "organizations": [_seen(count, seen) for count in _organizations(figures)],
            "events": events_plot(figures.last_day, figures.at),
            "latency": latency_plot(figures.last_day, figures.at),
        }
    return context


@dataclass(frozen=True, slots=True)
class Headline:
    """The whole status in a few words."""

    state: str
    """``ok``, ``warning`` or ``error``."""
    text: str


def headline(status: Status) -> Headline:
    errors = sum(problem.severity is Severity.ERROR for problem in status.problems)
    warnings = len(status.problems) - errors
    told = [
        f"{count} {'thing' if count == 1 else 'things'} to {what}"
        for count, what in ((errors, "act on now"), (warnings, "look into"))
        if count
    ]
    if not told:
        return Headline("ok", "current, and nothing is wrong")
    return Headline("error" if errors else "warning", ", ".join(told))


def _waiting(figures: Figures) -> Iterator[Count]:
    waiting = figures.waiting
    yield Count(
        "Announced by a webhook, not yet read from the stream",
        waiting.announced,
        UNSEEN,
        waiting.announced_since,
        is_wrong=waiting.overdue > 0,
    )
    yield Count("Parked, for a person", waiting.parked, PARKED, is_wrong=waiting.parked > 0)
    yield Count(
        "Write-backs: ids that WorkOS is still to be told",
        waiting.write_backs,
        WAITING,
        waiting.write_backs_since,
        is_wrong=waiting.write_backs_failing > 0,
    )
    yield Count(
        "Write-backs in conflict, for a person",
        waiting.conflicts,
        CONFLICTS,
        is_wrong=waiting.conflicts > 0,
    )


def _organizations(figures: Figures) -> Iterator[Count]:
    counts = figures.organizations
    for what, count, query in (
        ("Linked to WorkOS", counts.linked, {"linked": "yes", "disabled": "no"}),
        ("Not linked", counts.unlinked, {"linked": "no", "disabled": "no"}),
        ("Disabled", counts.disabled, {"disabled": "yes"}),
    ):
        yield Count(what, count, Place(what, "organization", query))


def _seen(count: Count, seen: Callable[[Place | None], Place | None]) -> Count:
    return Count(count.what, count.count, seen(count.place), count.since, count.is_wrong)
