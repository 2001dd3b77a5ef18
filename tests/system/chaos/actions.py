"""What can happen in a run: values that say what is done, and never do it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

# In WorkOS ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One of the fake's controls is called, such as ``users.update``."""

    control: str
    arguments: Mapping[str, Any]


Way: TypeAlias = Literal["listed", "never listed", "listed late"]


@dataclass(frozen=True, slots=True)
class Repeat:
    """An event says again what the last one said of an object.

    It is announced, and never listed, or listed only when the mirror has given it up.
    """

    resource: str
    key: str
    way: Way


@dataclass(frozen=True, slots=True)
class Skewed:
    """An event's only webhook is signed by a clock that is so many seconds wrong."""

    workos_id: str
    seconds: int

    @property
    def is_within_tolerance(self) -> bool:
        """WorkOS's SDK accepts 3 minutes; plans stay away from the limit."""
        return abs(self.seconds) < 180


WorkOSAction: TypeAlias = Call | Repeat | Skewed

# Between WorkOS and the mirror --------------------------------------------------------------

MailMode: TypeAlias = Literal["normal", "dropped", "repeated", "delayed", "shuffled"]


@dataclass(frozen=True, slots=True)
class HoldBack:
    """Events become readable so many seconds after they happened."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Mail:
    """What becomes of webhooks until the next one."""

    mode: MailMode
    seed: int


@dataclass(frozen=True, slots=True)
class Misbehave:
    """WorkOS answers the next requests of a kind wrongly; see the fake's ``misbehave``."""

    kind: str
    method: str
    path: str
    times: int
    applied: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Behave:
    """What WorkOS was to answer wrongly and has not answered yet, it answers rightly."""


Weather: TypeAlias = HoldBack | Mail | Misbehave | Behave

# To our own processes -----------------------------------------------------------------------

StopMode: TypeAlias = Literal["fast", "immediate"]


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL: a process with all its children, or one child. ``pick`` (0 to 1) says which one.

    What was killed whole is started again after ``back_after`` seconds. So is a cluster that lost a
    child: it may be wedged, and a supervisor's liveness check would find that.
    """

    member: str
    whole: bool
    pick: float
    back_after: float


@dataclass(frozen=True, slots=True)
class RestartPostgres:
    mode: StopMode


@dataclass(frozen=True, slots=True)
class Reconcile:
    """``manage.py reconcile_workos`` beside everything else, perhaps killed on its way."""

    kill_after: float | None


@dataclass(frozen=True, slots=True)
class Switch:
    """The settings name other resources from now on: all processes are started again with them."""

    resources: tuple[str, ...]


Blow: TypeAlias = Kill | RestartPostgres | Reconcile | Switch

# By other programs, in the table ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RivalAction:
    """What one of the other programs does, after what it has still to do."""

    rival: str


@dataclass(frozen=True, slots=True)
class SignUp(RivalAction):
    """A row is inserted, and its transaction stays open for a while."""

    organization_id: str
    name: str
    slug: str
    hold: float


@dataclass(frozen=True, slots=True)
class SetColumns(RivalAction):
    """Columns of a row are set: locally owned ones, or the name, which is drift."""

    organization_id: str
    columns: dict[str, str | bool]


@dataclass(frozen=True, slots=True)
class Remove(RivalAction):
    """A row is deleted, unless it is linked."""

    organization_id: str


@dataclass(frozen=True, slots=True)
class Lock(RivalAction):
    """Rows are locked, held, and let go unchanged."""

    organization_ids: tuple[str, ...]
    seconds: float


Action: TypeAlias = WorkOSAction | Weather | Blow | RivalAction


@dataclass(frozen=True, slots=True)
class Step:
    """An action, and how many seconds after its round's beginning it is due."""

    at: float
    action: Action


Round: TypeAlias = tuple[Step, ...]
