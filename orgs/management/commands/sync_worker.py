"""The worker: django-q2's cluster, watched, and started anew if it is stuck."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from orgs.conf import described, least_task_timeout, sync_settings
from orgs.services.worker import Watch

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 5.0

#: Kills its own group at the end of its input: when this process ends, however it ends.
_LEASH: Final = "cat >/dev/null; kill -s KILL 0"


class Command(BaseCommand):
    help = (
        "Run the worker: django-q2's cluster (manage.py qcluster), started anew if it ends by "
        "itself or works nothing off for two minutes. SIGTERM and SIGINT stop it once its tasks "
        "are done, or their time limit is over; a second one stops it at once."
    )
    _stops = 0

    def handle(self, *args: Any, **options: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        watch = Watch()
        logger.info("the worker starts: %s", described())
        has_run = False
        while True:
            watch.begin()
            with _running_cluster() as cluster:
                reason = self._watch(cluster, watch)
            if self._stops:
                return
            is_started = cluster.returncode <= 0
            has_run = has_run or is_started
            if not has_run:
                raise CommandError("The cluster can't be started; its output above says why.")
            logger.error("the worker's cluster is started anew: %s", reason)
            if not is_started:
                # The database is away, most likely: it comes back.
                time.sleep(_LOOK_SECONDS)

    def _note_stop(self, *_: object) -> None:
        self._stops += 1

    def _watch(self, cluster: "subprocess.Popen[bytes]", watch: Watch) -> str:
        """Return why the cluster is at an end, or has to be killed."""
        look_at = 0.0
        while cluster.poll() is None:
            if self._stops:
                return self._stop(cluster)
            if time.monotonic() >= look_at:
                if reason := watch.look():
                    return reason
                look_at = time.monotonic() + _LOOK_SECONDS
            time.sleep(_POLL_SECONDS)
        return "it ended by itself"

    def _stop(self, cluster: "subprocess.Popen[bytes]") -> str:
        # Its main process alone: the others have to end in order, or wait for each other for ever.
        cluster.terminate()
        deadline = time.monotonic() + least_task_timeout(sync_settings())
        while cluster.poll() is None and self._stops < 2 and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return "stopped"


@contextmanager
def _running_cluster() -> Iterator["subprocess.Popen[bytes]"]:
    """A cluster in a process group of its own; nothing of it is left afterwards, even if this
    process is killed by SIGKILL."""
    leash = subprocess.Popen(["/bin/sh", "-c", _LEASH], stdin=subprocess.PIPE, process_group=0)
    try:
        cluster = subprocess.Popen(
            [sys.executable, "-m", "django", "qcluster"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            process_group=leash.pid,
        )
        yield cluster
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leash.pid, signal.SIGKILL)
        leash.communicate()
    cluster.wait()
