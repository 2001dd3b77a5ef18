"""Plays a plan: does each action when it is due, or has a thread do it."""

import logging
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from threading import Lock
from typing import Any, cast

from orgs.testing import JsonObject, Refused
from tests.concurrency import wait_until
from tests.processes import manage
from tests.system.chaos import actions, postgres
from tests.system.chaos.actions import Action, Call, Kill, Repeat, Round, Switch
from tests.system.chaos.database import act_as_another_program
from tests.system.chaos.kinds import ORGANIZATION, RESOURCES, last_showing, subject_of
from tests.system.chaos.plan import CLUSTERS, ROUND_SECONDS, WEBS, normal_mail
from tests.system.chaos.stage import APART, POSTGRES, WINDOW_SECONDS, Stage

_chronicle = logging.getLogger("chaos")


class Director:
    """Plays one plan, once, from one thread; and remembers what only who did it knows."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._workos = stage.workos
        self._threads = ThreadPoolExecutor(16)
        self._running: list[Future[None]] = []
        self._restarting, self._switching = Lock(), Lock()
        self.done: Counter[str] = Counter()
        """How many actions of each class; of misbehaviour, how much of each kind."""
        self.not_followed: set[str] = set()
        """Events that came before their resource was followed, for the last time."""
        self.announced_only: dict[str, str] = {}
        """Event id to resource."""

    def play(self, plan: Sequence[Round]) -> None:
        """Do all of it, then end the faults. When this ends, nobody acts for it any more."""
        # PostgreSQL above all: one that is started later is one that nobody stops.
        with self._threads:
            for steps in plan:
                began_at = time.monotonic()
                for step in steps:
                    _sleep_until(began_at + step.at)
                    self._do(step.action)
                _sleep_until(began_at + ROUND_SECONDS)
                self._raise_failures(wait=False)
            quiet = (Call("behave", {}), Call("set_hold_back", {"seconds": 0.2}), *normal_mail(0))
            for call in quiet:
                self._do(call)
            # A switch that is under way is not to be the last one.
            self._raise_failures(wait=True)
            self._do(Switch(RESOURCES))
            self._raise_failures(wait=True)

    def _raise_failures(self, *, wait: bool) -> None:
        for running in [each for each in self._running if wait or each.done()]:
            self._running.remove(running)
            running.result()

    def _do(self, action: Action) -> None:
        self.done[type(action).__name__] += 1
        match action:
            case Call() | Repeat():
                self._change_workos(action)
            case Kill(member, whole, _, back_after):
                _chronicle.info("%s: %s", action, self._stage.fleet.kill(action))
                self.done[f"{member}, {'whole' if whole else 'a child'}"] += 1
                # gunicorn replaces its children.
                if member in CLUSTERS and not whole:
                    self._running.append(self._threads.submit(self._kill_later, member, back_after))
            case _:
                self._running.append(self._threads.submit(self._run, action))

    # In WorkOS, and between WorkOS and the mirror

    def _change_workos(self, action: Call | Repeat) -> None:
        result = "done"
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
        except Refused as refused:
            # Say, an external_id that our write-back gave to its old owner again just before.
            result = f"refused: {refused.message}"
        _chronicle.info("%s: %s", action, result)

    def _repeat(self, resource: str, key: str, **how: Any) -> JsonObject:
        """An event that says again what the object is, or was, as far as events said."""
        last = last_showing(self._workos.all_events(), resource, key)
        if last is None:
            raise Refused(404, "not_found", "there is no such object, or no event of it")
        event = {name: last[name] for name in ("object", "event", "data")}
        return cast(JsonObject, self._workos.emit(event, **how))

    # To our own processes, and by other programs

    def _run(self, action: Action) -> None:
        environment = self._stage.environment
        result = "done"
        match action:
            case actions.Write() | actions.Lock():
                result = act_as_another_program(action, environment["DATABASE_URL"])
            case actions.RestartPostgres(mode):
                with self._restarting:
                    postgres.restart(self._stage.folder / POSTGRES, mode)
            case actions.Reconcile(kill_after):
                try:
                    options = {"timeout": kill_after or 300.0, **APART}
                    result = str(manage(environment, "reconcile_workos", **options).returncode)
                except subprocess.TimeoutExpired:
                    result = "killed"
            case Switch(resources):
                with self._switching:
                    self._switch(",".join(resources))
        _chronicle.info("%s: %s", action, result)

    def _kill_later(self, member: str, seconds: float) -> None:
        time.sleep(seconds)
        self._stage.fleet.kill(Kill(member, whole=True))

    def _switch(self, named: str) -> None:
        """As an operator does: the settings are changed, and all is started anew."""
        environment = self._stage.environment
        if named == environment["WORKOS_RESOURCES"]:
            return
        environment["WORKOS_RESOURCES"] = named
        for member in (*WEBS, *CLUSTERS):
            self._stage.fleet.kill(Kill(member, whole=True))
        # What ``sync_worker`` does at its start, as often as it takes.
        adopt = "from orgs.services.coverage import adopt_settings; adopt_settings()"
        command = ("shell", "--no-imports", "-c", adopt)
        wait_until(lambda: manage(environment, *command, **APART).returncode == 0, "it is adopted")
        subjects = {one["id"]: subject_of(one)[0] for one in self._workos.all_events()}
        subjects |= self.announced_only
        self.not_followed |= {id_ for id_, name in subjects.items() if name != ORGANIZATION}


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))
