"""Keeps the budget of requests that processes share: one row, filled by the database's clock."""

import threading
from collections.abc import Sequence
from typing import Any

from django.db import connection

from orgs.conf import sync_settings
from orgs.domain.budget import BURST, LONGEST_PAUSE, PARTS, WAIT, Grant, Share

#: Before each statement, and for its transaction alone. Nobody waits for the row for long; and what
#: a crash of the server loses is worth no wait for the disk.
_BOUNDS = """
SELECT set_config('lock_timeout', '250ms', true), set_config('synchronous_commit', 'off', true);
"""

#: Parameters: tokens a second for the stream and for the rest, seconds of them that are kept, the
#: longest pause (a longer one was noted before the clock was set back), whether it is for the
#: stream, tokens. Returns the tokens taken, and the seconds until the pause is over.
_RESERVE = """
WITH asked (stream_rate, bulk_rate, burst, longest_pause, is_for_stream, wanted) AS (
    VALUES (%s::float8, %s::float8, %s::float8, %s::float8, %s::boolean, %s::float8)
), bucket AS MATERIALIZED (
    SELECT *, clock_timestamp() AS now FROM workos_request_budget WHERE id = 1 FOR NO KEY UPDATE
), filled AS (
    SELECT now, is_for_stream, wanted,
        least(burst * stream_rate, stream_tokens + passed * stream_rate) AS stream,
        least(burst * bulk_rate, bulk_tokens + passed * bulk_rate) AS bulk,
        CASE WHEN pause > 0 AND pause <= longest_pause THEN pause END AS pause
    FROM asked, bucket,
        LATERAL (SELECT greatest(0, extract(epoch FROM now - refilled_at)::float8)) AS a (passed),
        LATERAL (SELECT extract(epoch FROM paused_until - now)::float8) AS b (pause)
), taken AS (
    SELECT *,
        CASE WHEN is_for_stream THEN least(wanted, floor(stream)) ELSE 0 END AS of_stream,
        CASE WHEN is_for_stream AND stream >= 1
            THEN 0 ELSE least(wanted, floor(bulk)) END AS of_bulk
    FROM filled
)
UPDATE workos_request_budget AS budget
SET stream_tokens = stream - of_stream, bulk_tokens = bulk - of_bulk, refilled_at = now
FROM taken WHERE budget.id = 1
RETURNING (of_stream + of_bulk)::int, pause
"""

_CREATE = """
INSERT INTO workos_request_budget (id, stream_tokens, bulk_tokens) VALUES (1, %s, %s)
ON CONFLICT (id) DO NOTHING
"""

_PAUSE = """
INSERT INTO workos_request_budget AS budget (id, paused_until)
VALUES (1, clock_timestamp() + %s * interval '1 second')
ON CONFLICT (id) DO UPDATE SET paused_until = least(
    greatest(budget.paused_until, excluded.paused_until),
    clock_timestamp() + %s * interval '1 second'
)
"""


class SharedBudget:
    """The budget of all processes that use this database (an ``orgs.workos.Budget``).

    May be used in any thread. Raises ``django.db.Error``, and ``RuntimeError`` in a transaction:
    that would keep the row locked.
    """

    def reserve(self, share: Share, wanted: int) -> Grant:
        """Take up to ``wanted`` tokens."""
        per_second = sync_settings().requests_per_minute / 60
        rates = [PARTS[part] * per_second for part in (Share.STREAM, Share.BULK)]
        values = [*rates, BURST, LONGEST_PAUSE, share is Share.STREAM, wanted]
        rows = _execute(_RESERVE, values)
        if not rows:
            _execute(_CREATE, [BURST * rate for rate in rates])
            rows = _execute(_RESERVE, values)
        ((tokens, pause),) = rows
        if pause:
            return Grant(0, pause, is_paused=True)
        return Grant(tokens, 0.0 if tokens else WAIT)

    def pause(self, seconds: float) -> None:
        """Give out nothing for so long; a longer pause stays."""
        _execute(_PAUSE, [seconds, LONGEST_PAUSE])

    def keep(self) -> None:
        """Leave the connection of this thread, which has none yet, open until ``release``."""
        _of_thread.keeps = True

    def release(self) -> None:
        """Close it."""
        _of_thread.keeps = False
        connection.close()


_of_thread = threading.local()


def _execute(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    # Threads that only call WorkOS have no connection yet, and nobody would close it after them.
    # One that is kept is closed after an error, which may have broken it.
    keeps = getattr(_of_thread, "keeps", False)
    stays_open = connection.connection is not None and not keeps
    try:
        if not connection.get_autocommit():
            raise RuntimeError("requests can't be reserved inside a transaction")
        with connection.cursor() as cursor:
            cursor.execute(_BOUNDS + statement, values)
            cursor.nextset()
            rows = cursor.fetchall() if cursor.description else []
        stays_open |= keeps
        return rows
    finally:
        if not stays_open:
            connection.close()
