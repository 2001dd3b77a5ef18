"""Moves PostgreSQL's clock for one connection: other functions hide those that tell the time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.triggers import changed, execute

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
        execute("SELECT set_config('moved.by', %s, false)", f"{seconds} seconds")

    with changed(
        f"CREATE SCHEMA moved; {_FUNCTIONS}; SET search_path = moved, pg_catalog, public",
        "RESET search_path; DROP SCHEMA moved CASCADE",
    ):
        move(0)
        yield move
