"""What can happen in a run: values that say what is done, and never do it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

Way: TypeAlias = Literal["listed", "never listed", "listed late"]
StopMode: TypeAlias = Literal["fast", "immediate"]


@dataclass(frozen=True, slots=True)
class Call:
    """One of the fake's controls is called, such as ``users.update`` or ``misbehave``."""

    control: str
    arguments: Mapping[str, Any]


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


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL: a process with all its children, or one child. ``pick`` (0 to 1) says which one.

    What was killed whole is started again after ``back_after`` seconds. So is a cluster that lost a
    child: it may be wedged, and a supervisor's liveness check would find that.
    """

    member: str
    whole: bool
    pick: float = 0.0
    back_after: float = 0.0


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


@dataclass(frozen=True, slots=True)
class Write:
    """Another program writes a row, after what it has still to do, and holds it for a while.

    It inserts it, sets locally owned columns or the name, or deletes it unless it is linked.
    """

    rival: str
    kind: Literal["insert", "set", "delete"]
    organization_id: str
    columns: Mapping[str, str | bool]
    hold: float = 0.0


@dataclass(frozen=True, slots=True)
class Lock:
    """Another program locks rows, holds them, and lets them go unchanged."""

    rival: str
    organization_ids: tuple[str, ...]
    hold: float


Action: TypeAlias = (
    Call | Repeat | Skewed | Kill | RestartPostgres | Reconcile | Switch | Write | Lock
)


class Step(NamedTuple):
    """An action, and how many seconds after its round's beginning it is due."""

    at: float
    action: Action


Round: TypeAlias = tuple[Step, ...]
