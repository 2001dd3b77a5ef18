"""What can happen in a run: values that say what is done, and never do it."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

Way: TypeAlias = Literal["listed", "never listed", "listed late"]
StopMode: TypeAlias = Literal["fast", "immediate"]


class Call(NamedTuple):
    """One of the fake's controls is called, such as ``users.update`` or ``misbehave``."""

    control: str
    arguments: Mapping[str, Any]


class Repeat(NamedTuple):
    """An event says again what the last one said of an object.

    It is announced, and never listed, or listed only when the mirror has given it up.
    """

    resource: str
    key: str
    way: Way


class Kill(NamedTuple):
    """SIGKILL: a process with all its children, or one child. ``pick`` (0 to 1) says which one.

    What was killed whole is started again after ``back_after`` seconds. A cluster that lost a child
    is killed whole then: it may be stuck, and a supervisor's liveness check would find that.
    """

    member: str
    whole: bool
    pick: float = 0.0
    back_after: float = 0.0


class RestartPostgres(NamedTuple):
    mode: StopMode


class Reconcile(NamedTuple):
    """``manage.py reconcile_workos`` beside everything else, perhaps killed on its way."""

    kill_after: float | None


class Switch(NamedTuple):
    """The settings name other resources from now on: all processes are started again with them."""

    resources: tuple[str, ...]


class Write(NamedTuple):
    """Another program writes a row, and holds it for a while.

    It inserts it, sets locally owned columns or the name, or deletes it unless it is linked.
    """

    kind: Literal["insert", "set", "delete"]
    organization_id: str
    columns: Mapping[str, Any]
    hold: float = 0.0


class Lock(NamedTuple):
    """Another program locks rows, holds them, and lets them go unchanged."""

    organization_ids: tuple[str, ...]
    hold: float


Action: TypeAlias = Call | Repeat | Kill | RestartPostgres | Reconcile | Switch | Write | Lock


class Step(NamedTuple):
    """An action, and how many seconds after its round's beginning it is due."""

    at: float
    action: Action


Round: TypeAlias = tuple[Step, ...]
