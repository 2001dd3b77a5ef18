"""Plays a plan: does each action when it is due, or hands it to whoever does it."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from threading import Lock
from typing import Any, cast

from orgs.testing import JsonObject, Refused, sign
from tests.concurrency import wait_until
from tests.processes import manage, status_of
from tests.system.chaos import postgres, warden
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


class Director:
    """Plays one plan, once, from one thread; and remembers what only who did it knows."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._workos = stage.workos
        self._note = stage.chronicle.note
        url = stage.environment["DATABASE_URL"]
        self._rivals = {name: Rival(name, url, self._note) for name in RIVALS}
        self._aside = ThreadPoolExecutor(8, "aside")
        self._errands: list[Future[None]] = []
        self._restarting, self._switching = Lock(), Lock()
        self.done: Counter[str] = Counter()
        """How many actions of each class; of misbehaviour, how much of each kind."""
        self.not_followed: set[str] = set()
        """Events that came before their resource was followed, for the last time."""
        self.announced_only: dict[str, str] = {}
        """Event id to resource."""
        self.skewed: dict[str, tuple[Skewed, int | None]] = {}
        """Event id to its only webhook, and how that was answered."""

    def play(self, plan: Sequence[Round]) -> None:
        """Do all of it, then end the faults. When this ends, nobody acts for it any more."""
        for rival in self._rivals.values():
            rival.start()
        # PostgreSQL above all: one that is started later is one that nobody stops.
        with self._aside:
            for steps in plan:
                began_at = time.monotonic()
                for step in steps:
                    _sleep_until(began_at + step.at)
                    self._do(step.action)
                _sleep_until(began_at + ROUND_SECONDS)
                self._raise_of_errands(wait=False)
            for call in (Call("behave", {}), Call("set_hold_back", {"seconds": 0.2})):
                self._do(call)
            for call in normal_mail(0):
                self._do(call)
            # A switch that is under way is not to be the last one.
            self._raise_of_errands(wait=True)
            self._do(Switch(RESOURCES))
            for rival in self._rivals.values():
                rival.stop()
            self._raise_of_errands(wait=True)

    def _raise_of_errands(self, *, wait: bool) -> None:
        for errand in [errand for errand in self._errands if wait or errand.done()]:
            self._errands.remove(errand)
            errand.result()

    def _do(self, action: Action) -> None:
        self.done[type(action).__name__] += 1
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
                        self.done[arguments["kind"]] += arguments["times"]
                case Repeat(resource, key, "listed"):
                    self._repeat(resource, key)
                case Repeat(resource, key, way):
                    how = {"visible_after": WINDOW_SECONDS + 5} if way == "listed late" else {}
                    event = self._repeat(resource, key, listed=bool(how), **how)
                    self.announced_only[event["id"]] = resource
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
        body, milliseconds = json.dumps(event).encode(), int((time.time() + skewed.seconds) * 1000)
        secret = self._stage.environment["WORKOS_WEBHOOK_SECRET"]
        headers = {"WorkOS-Signature": sign(secret, body, milliseconds)}
        status = status_of(self._stage.port, "POST", "/webhooks/workos/", body, headers)
        self.skewed[event["id"]] = (skewed, status)
        self._note(f"answered {status}", skewed)

    # To our own processes

    def _restart_postgres(self, restart: RestartPostgres) -> None:
        with self._restarting:
            postgres.restart(self._stage.folder / warden.POSTGRES, restart.mode)
        self._note("done", restart)

    def _reconcile(self, reconcile: Reconcile) -> None:
        try:
            options = {"timeout": reconcile.kill_after or 300.0, **APART}
            ended = manage(self._stage.environment, "reconcile_workos", **options)
            self._note(f"exit code {ended.returncode}", reconcile)
        except subprocess.TimeoutExpired:
            self._note("killed", reconcile)

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
            subjects |= self.announced_only
            self.not_followed |= {id_ for id_, name in subjects.items() if name != ORGANIZATION}
            self._note("done", switch)


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))
