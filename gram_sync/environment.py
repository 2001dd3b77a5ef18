"""Reads settings from the environment and, for what is not set there, from the file .env.

Every function raises ImproperlyConfigured for what can't be read, and never shows a secret in it.
"""

import io
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import environ
from django.core.exceptions import ImproperlyConfigured
from psycopg.pq import Conninfo

from gram_sync.processes import PROJECT

#: What Django or psycopg takes beside libpq's options.
_OTHER_OPTIONS: Final = {"assume_role", "pool", "prepare_threshold", "server_side_binding"}
_URL: Final = "postgresql://user:password@host:5432/name"


def env_file() -> Path:
    """Return the file that ENV_FILE names, or .env."""
    return Path(os.environ.get("ENV_FILE") or PROJECT / ".env")


def read_env_file() -> None:
    """Add the variables of the file to the environment, where those that have a value win."""
    path = env_file()
    try:
        content = path.read_text() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} can't be read: {error}") from None
    for number, line in enumerate(content.splitlines(), start=1):
        match = re.match(r"\s*(?:#|$)|(?:export )?(\w+)=", line)
        if not match:
            raise ImproperlyConfigured(f"{path}, line {number}, must look like NAME=value")
        if match[1] and not text(match[1]):
            os.environ.pop(match[1], None)
    environ.Env.read_env(io.StringIO(content))


def text(name: str, default: str = "") -> str:
    """Return a variable without blanks around it."""
    # Not through django-environ, which takes a value that begins with "$" for another's name.
    return os.environ.get(name, "").strip() or default


def items(name: str) -> list[str]:
    """Return what is between the commas of a variable."""
    return [item.strip() for item in text(name).split(",") if item.strip()]


def number(name: str, default: float, *, least: float, most: float) -> Any:
    """Return a number of the type of ``default``."""
    written = text(name, str(default))
    with suppress(ValueError):
        if least <= (value := type(default)(written)) <= most:
            return value
    kind = "a whole number" if isinstance(default, int) else "a number"
    raise ImproperlyConfigured(f"{name} must be {kind} from {least:g} to {most:g}, not {written!r}")


def switch(name: str) -> bool:
    """Return True for true, 1, yes and on, and False for their opposites and for nothing."""
    on, off = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
    if (written := text(name, "false").lower()) not in on + off:
        raise ImproperlyConfigured(f"{name} must be true or false, not {text(name)!r}")
    return written in on


def choice(name: str, *choices: str) -> str:
    """Return one of some words, in whatever case it is written; the first if it is not set."""
    written = text(name, choices[0])
    if (found := {each.lower(): each for each in choices}.get(written.lower())) is None:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(choices)}, not {written!r}")
    return found


def url(name: str, what: str, *schemes: str) -> str:
    """Return a URL that begins with one of the schemes, or an empty text."""
    written = text(name)
    if written and not written.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        known = " or ".join(f"{scheme}://…" for scheme in schemes)
        raise ImproperlyConfigured(f"{name} must name a {what}: {known}")
    return written


def database_url(name: str) -> dict[str, Any] | None:
    """Return the PostgreSQL that a URL names, as Django's settings have it; None without one."""
    if not (written := url(name, "PostgreSQL", "postgresql", "postgres")):
        return None
    try:
        database = dict(environ.Env.db_url_config(written))
    except ValueError:
        how = f"it must look like {_URL}, with %XX for special characters in the password"
        raise ImproperlyConfigured(f"{name} can't be read; {how}") from None
    options = database.get("OPTIONS", {}).keys()
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for unknown in sorted(options - known - _OTHER_OPTIONS):
        instead = "; write ?options=-c%20search_path%3DNAME" if unknown == "schema" else ""
        raise ImproperlyConfigured(f"{name} has ?{unknown}=, which PostgreSQL has not{instead}")
    if not database["NAME"] and "service" not in options:
        raise ImproperlyConfigured(f"{name} names no database; it must look like {_URL}")
    return database
