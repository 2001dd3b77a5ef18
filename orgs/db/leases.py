"""Acquires, renews and releases leases: what only one process at a time should do.

They go by the database's clock. They save work; correctness does not rest on them.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import Error as DatabaseUnusable
from django.db import connection

from orgs.db import sql_cursor as sql
from orgs.db.transactions import execute_alone

logger = logging.getLogger(__name__)


class Lease(StrEnum):
    """The column of the cursor's row that says until when a lease lasts."""

    DRAIN = "draining_until"
    SNAPSHOT = "reconciling_until"

    def acquire(self, seconds: float) -> datetime | None:
        """Return the lease's end, as proof; None if another process has it."""
        return self._execute(sql.ACQUIRE_LEASE, seconds)

    def renew(self, lease: datetime, seconds: float) -> datetime | None:
        """Return the new end; None if the lease ran out and another process has it."""
        return self._execute(sql.RENEW_LEASE, seconds, lease)

    def release(self, lease: datetime) -> None:
        """End the lease if it is still this one."""
        self._execute(sql.RELEASE_LEASE, lease)

    def release_or_expire(self, lease: datetime) -> None:
        """Release it; if the database does not answer, it runs out by itself."""
        try:
            self.release(lease)
        except DatabaseUnusable:
            logger.warning(
                "the lease %s could not be released; it runs out by itself", self.name.lower()
            )

    @contextmanager
    def auto_renewed(self, seconds: float) -> Iterator[bool]:
        """Acquire it until the end of the block; yield False if another process has it.

        A thread renews it, with a connection of its own. A failed renewal is logged: work without
        its lease is harmless, and wasteful only if another process begins the same.
        """
        lease = self.acquire(seconds)
        if lease is None:
            yield False
            return
        done = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            renewing = threads.submit(self._renew_until, done, lease, seconds)
            try:
                yield True
            finally:
                done.set()
                renewing.result()

    def _renew_until(self, done: threading.Event, lease: datetime | None, seconds: float) -> None:
        try:
            while lease is not None and not done.wait(seconds / 4):
                try:
                    lease = self.renew(lease, seconds)
                except DatabaseUnusable:
                    logger.warning("the lease %s could not be renewed", self.name.lower())
                    # Or a broken connection would stay broken.
                    connection.close()
            if lease is not None:
                self.release_or_expire(lease)
        finally:
            connection.close()

    def _execute(self, statement: str, *values: Any) -> datetime | None:
        rows = execute_alone(statement.format(lease=self.value), values)
        return rows[0][0] if rows else None


def note_enqueued(seconds: float, *, at_most: float | None = None) -> bool:
    """Note that a drain is enqueued, which has to begin within so many seconds.

    Return False if one waits, or is enqueued and has not begun: it will see what was committed
    before this call.
    """
    return bool(execute_alone(sql.NOTE_ENQUEUED, [seconds, seconds], at_most=at_most))


def clear_enqueued() -> None:
    """Note that a drain begins: only what is committed before this may have relied on it."""
    execute_alone(sql.CLEAR_ENQUEUED, [])
