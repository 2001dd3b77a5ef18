"""Reads settings from the environment and, for what is not set there, from the file .env."""

import io
import os
import re
from pathlib import Path
from typing import Any, Final

import environ
from django.core.exceptions import ImproperlyConfigured
from psycopg.pq import Conninfo

PROJECT: Final = Path(__file__).resolve().parents[1]

_ON: Final = ("true", "1", "yes", "on")
_OFF: Final = ("false", "0", "no", "off")
#: What Django takes out of OPTIONS, or psycopg beside libpq's own options.
_DJANGOS_OPTIONS: Final = {
    "assume_role",
    "isolation_level",
    "pool",
    "prepare_threshold",
    "server_side_binding",
}


def env_file() -> Path:
    """Return the file that ENV_FILE names, or .env."""
    return Path(os.environ.get("ENV_FILE") or PROJECT / ".env")


def read_env_file() -> None:
    """Add the variables of .env to the environment; those that are set win.

    Raises ImproperlyConfigured, without the line that can't be read: it may hold a secret.
    """
    path = env_file()
    try:
        content = path.read_text() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} can't be read: {error}") from None
    for number, line in enumerate(content.splitlines(), start=1):
        if not re.match(r"\s*(#|$)|(export )?[A-Za-z_0-9]+=", line):
            raise ImproperlyConfigured(f"{path}, line {number}, must look like NAME=value")
    environ.Env.read_env(io.StringIO(content))


def text(name: str, default: str = "") -> str:
    """Return a variable without blanks around it."""
    # Not through django-environ, which takes a value that begins with "$" for another's name.
    return os.environ.get(name, "").strip() or default


def items(name: str) -> list[str]:
    """Return what is between the commas of a variable."""
    return [item.strip() for item in text(name).split(",") if item.strip()]


def number(name: str, default: float, *, least: float, most: float) -> Any:
    """Return a number of the type of ``default``. Raises ImproperlyConfigured."""
    kind = type(default)
    written = text(name)
    try:
        value = kind(written) if written else default
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        wanted = "a whole number" if kind is int else "a number"
        raise ImproperlyConfigured(
            f"{name} must be {wanted} from {least:g} to {most:g}, not {written!r}"
        )
    return value


def switch(name: str) -> bool:
    """Return True for true, 1, yes and on, False for their opposites. Raises ImproperlyConfigured."""
    written = text(name, "false").lower()
    if written not in (*_ON, *_OFF):
        raise ImproperlyConfigured(f"{name} must be true or false, not {text(name)!r}")
    return written in _ON


def choice(name: str, default: str, *others: str) -> str:
    """Return one of some words, in whatever case it is written. Raises ImproperlyConfigured."""
    chosen = {each.lower(): each for each in (default, *others)}
    written = text(name, default)
    if written.lower() not in chosen:
        known = " or ".join(chosen.values())
        raise ImproperlyConfigured(f"{name} must be {known}, not {written!r}")
    return chosen[written.lower()]


def database_url(name: str) -> dict[str, Any] | None:
    """Return the database that a URL names, as Django's settings have it; None if it is not set.

    Raises ImproperlyConfigured, without the URL: it holds a password.
    """
    if not (url := text(name)):
        return None
    if not url.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(f"{name} must name a PostgreSQL: postgresql://…")
    try:
        database = dict(environ.Env.db_url_config(url))
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} can't be read; it must look like postgresql://user:password@host:5432/name,"
            " with %XX for special characters in the password"
        ) from None
    options = database.get("OPTIONS", {}).keys()
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for unknown in sorted(options - known - _DJANGOS_OPTIONS):
        instead = "; write ?options=-c%20search_path%3DNAME" if unknown == "schema" else ""
        raise ImproperlyConfigured(
            f"{name} has ?{unknown}=, which PostgreSQL's client does not know{instead}"
        )
    if not database["NAME"] and "service" not in options:
        raise ImproperlyConfigured(
            f"{name} names no database; it must look like postgresql://user:password@host:5432/name"
        )
    return database
