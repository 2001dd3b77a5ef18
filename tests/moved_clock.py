"""Moves PostgreSQL's clock for one connection: other functions hide those that tell the time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection

_FUNCTIONS = "".join(
    f"""
    CREATE OR REPLACE FUNCTION moved.{name}() RETURNS timestamptz LANGUAGE sql {kind}
    AS $$ SELECT pg_catalog.{name}() + current_setting('moved.by')::interval $$;
    """
    for name, kind in (("clock_timestamp", "VOLATILE"), ("statement_timestamp", "STABLE"))
)


@contextmanager
def moved_clock() -> Iterator[Callable[[float], None]]:
    """Yield what sets the seconds that it is ahead. Defaults of columns keep the real clock."""

    def move(seconds: float) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('moved.by', %s, false)", [f"{seconds} seconds"])

    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS moved; {_FUNCTIONS}")
        cursor.execute("SET search_path = moved, pg_catalog, public")
    move(0)
    try:
        yield move
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET search_path; DROP SCHEMA moved CASCADE")
