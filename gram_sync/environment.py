"""Reads settings from the environment and, for what is not set there, from the file .env.

Functions raise ImproperlyConfigured for a value that can't be right, and show no secret in it.
"""

import io
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import environ
import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from gram_sync.processes import PROJECT


def env_file() -> Path:
    """Return the file that ENV_FILE names, or .env."""
    return Path(os.environ.get("ENV_FILE") or PROJECT / ".env")


def read_env_file() -> None:
    """Add the variables of the file to the environment, where those that have a value win."""
    path = env_file()
    try:
        # It may begin with a byte order mark.
        content = path.read_text("utf-8-sig", errors="replace") if path.is_file() else ""
    except OSError as error:
        raise ImproperlyConfigured(f"{path} can't be read: {error.strerror}") from None
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
    on = ("true", "1", "yes", "on")
    return choice(name, "false", "0", "no", "off", *on) in on


def choice(name: str, *choices: str) -> str:
    """Return one of some words, in whatever case it is written; the first if it is not set."""
    written = text(name, choices[0])
    if (found := {each.lower(): each for each in choices}.get(written.lower())) is None:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(choices)}, not {written!r}")
    return found


def database_url(name: str) -> dict[str, Any] | None:
    """Return the PostgreSQL that a URL names, as Django's settings have it; None without one."""
    # An "@" of the password may stand as it is: the last one ends it.
    written = re.sub("(?<=://)[^/]+(?=@)", lambda user: user[0].replace("@", "%40"), text(name))
    if not written:
        return None
    # What libpq says itself would show the password. With a "/" in it, it is taken for a port.
    with suppress(psycopg.Error, ValueError):
        found: dict[str, Any] = conninfo_to_dict(written)
        sum(int(port or 0) for port in found.get("port", "").split(","))  # or ValueError
        named = found.keys() & {"dbname", "service"}
        if named and written.startswith(("postgresql://", "postgres://")):
            return {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": found.pop("dbname", ""),
                **{it.upper(): found.pop(it, "") for it in ("user", "password", "host", "port")},
                "OPTIONS": found,
            }
    raise ImproperlyConfigured(
        f"{name} must look like postgresql://user:password@host:5432/name, with %XX for special "
        "characters, and with no options but libpq's (such as ?sslmode=require)"
    )
