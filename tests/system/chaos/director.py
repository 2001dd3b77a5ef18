"""Plays a plan: does each action when it is due, or hands it to whoever does it."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from threading import Lock
from types import TracebackType
from typing import Any, Self, cast

from orgs.testing import JsonObject, Refused, sign
from tests.concurrency import wait_until
from tests.processes import manage, status_of
from tests.system.chaos import postgres
from tests.system.chaos.actions import (
    Action,
    Call,
    Kill,
    Reconcile,
    Repeat,
    RestartPostgres,
    Round,
    Skewed,
    Switch,
)
from tests.system.chaos.kinds import ORGANIZATION, RESOURCES, last_showing, subject_of
from tests.system.chaos.plan import CLUSTERS, RIVALS, ROUND_SECONDS, WEBS, normal_mail
from tests.system.chaos.rivals import Rival
from tests.system.chaos.stage import APART, WINDOW_SECONDS, Stage


@dataclass(slots=True)
class Played:
    """What was done in a run, as far as only who did it knows."""

    rounds: int = 0
    not_followed: set[str] = field(default_factory=set)
    """Events that came before their resource was followed, for the last time."""
    announced_only: dict[str, str] = field(default_factory=dict)
    """Event id to resource."""
    skewed: dict[str, tuple[Skewed, int | None]] = field(default_factory=dict)
    """Event id to its only webhook, and how that was answered."""
    faults: Counter[str] = field(default_factory=Counter)
    postgres_restarts: Counter[str] = field(default_factory=Counter)
    reconciles: Counter[str] = field(default_factory=Counter)
    rivals: Counter[str] = field(default_factory=Counter)


class Director:
    """Plays one plan, once, from one thread. When the context ends, nobody acts for it any more."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._workos = stage.workos
        self._note = stage.chronicle.note
        url = stage.environment["DATABASE_URL"]
        self._rivals = {name: Rival(name, url, self._note) for name in RIVALS}
        self._aside = ThreadPoolExecutor(8, "aside")
        self._errands: list[Future[None]] = []
        self._restarting, self._switching = Lock(), Lock()
        self.played = Played()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # PostgreSQL above all: one that is started later is one that nobody stops.
        self._aside.shutdown(cancel_futures=True)

    def play(self, plan: Sequence[Round]) -> None:
        """Do all of it, then end the faults. What is under way then still ends, or goes on."""
        for rival in self._rivals.values():
            rival.start()
        for number, steps in enumerate(plan, 1):
            began_at = time.monotonic()
            for step in steps:
                _sleep_until(began_at + step.at)
                self._do(step.action)
            _sleep_until(began_at + ROUND_SECONDS)
            self._raise_of_errands(wait=False)
            self.played.rounds = number
        for call in (Call("behave", {}), Call("set_hold_back", {"seconds": 0.2}), *normal_mail(0)):
            self._do(call)
        # A switch that is under way is not to be the last one.
        self._raise_of_errands(wait=True)
        self._do(Switch(RESOURCES))
        for rival in self._rivals.values():
            rival.stop()
            self.played.rivals += rival.results
        self._raise_of_errands(wait=True)

    def _raise_of_errands(self, *, wait: bool) -> None:
        for errand in [errand for errand in self._errands if wait or errand.done()]:
            self._errands.remove(errand)
            errand.result()

    def _do(self, action: Action) -> None:
        match action:
            case Call() | Repeat() | Skewed():
                self._change_workos(action)
            case Kill():
                self._note(self._stage.fleet.kill(action), action)
            case Reconcile():
                self._errands.append(self._aside.submit(self._reconcile, action))
            case RestartPostgres():
                self._errands.append(self._aside.submit(self._restart_postgres, action))
            case Switch():
                self._errands.append(self._aside.submit(self._switch, action))
            case _:
                self._rivals[action.rival].do(action)

    # In WorkOS, and between WorkOS and the mirror

    def _change_workos(self, action: Call | Repeat | Skewed) -> None:
        try:
            match action:
                case Call(control, arguments):
                    attrgetter(control)(self._workos)(**arguments)
                    if control == "misbehave":
                        self.played.faults[arguments["kind"]] += arguments["times"]
                case Repeat(resource, key, "listed"):
                    self._repeat(resource, key)
                case Repeat(resource, key, way):
                    how = {"visible_after": WINDOW_SECONDS + 5} if way == "listed late" else {}
                    event = self._repeat(resource, key, listed=bool(how), **how)
                    self.played.announced_only[event["id"]] = resource
                case Skewed(workos_id):
                    event = self._repeat(ORGANIZATION, workos_id, announced=False)
                    self._errands.append(self._aside.submit(self._deliver, event, action))
        except Refused as refused:
            # Say, an external_id that our write-back gave to its old owner again just before.
            self._note(f"refused: {refused.message}", action)
        else:
            self._note("done", action)

    def _repeat(self, resource: str, key: str, **how: Any) -> JsonObject:
        """An event that says again what the object is, or was, as far as events told."""
        last = last_showing(self._workos.all_events(), resource, key)
        if last is None:
            raise Refused(404, "not_found", "there is no such object, or no event of it")
        event = {name: last[name] for name in ("object", "event", "data")}
        return cast(JsonObject, self._workos.emit(event, **how))

    def _deliver(self, event: JsonObject, skewed: Skewed) -> None:
        body = json.dumps(event).encode()
        signature = sign(
            self._stage.webhook_secret, body, int((time.time() + skewed.seconds) * 1000)
        )
        headers = {"WorkOS-Signature": signature}
        status = status_of(self._stage.port, "POST", "/webhooks/workos/", body, headers)
        self.played.skewed[event["id"]] = (skewed, status)
        self._note(f"answered {status}", skewed)

    # To our own processes

    def _restart_postgres(self, restart: RestartPostgres) -> None:
        with self._restarting:
            began_at = time.monotonic()
            postgres.restart(self._stage.data_dir, restart.mode)
            self.played.postgres_restarts[restart.mode] += 1
            self._note(f"done in {time.monotonic() - began_at:.1f} s", restart)

    def _reconcile(self, reconcile: Reconcile) -> None:
        try:
            options = {"timeout": reconcile.kill_after or 300.0, **APART}
            code = manage(self._stage.environment, "reconcile_workos", **options).returncode
            result = f"exit code {code}"
        except subprocess.TimeoutExpired:
            result = "killed"
        self.played.reconciles[result] += 1
        self._note(result, reconcile)

    def _switch(self, switch: Switch) -> None:
        """As an operator does: the settings are changed, and all is started anew."""
        environment, named = self._stage.environment, ",".join(switch.resources)
        with self._switching:
            if named == environment["WORKOS_RESOURCES"]:
                return
            environment["WORKOS_RESOURCES"] = named
            for member in (*WEBS, *CLUSTERS):
                self._stage.fleet.kill(Kill(member, whole=True))
            # What ``sync_worker`` does at its start, as often as it takes.
            adopt = "from orgs.services.coverage import adopt_settings; adopt_settings()"
            command = ("shell", "--no-imports", "-c", adopt)
            wait_until(
                lambda: manage(environment, *command, **APART).returncode == 0,
                "the settings are adopted",
            )
            subjects = {one["id"]: subject_of(one)[0] for one in self._workos.all_events()}
            subjects |= self.played.announced_only
            self.played.not_followed |= {
                id_ for id_, name in subjects.items() if name != ORGANIZATION
            }
            self._note("done", switch)


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))
