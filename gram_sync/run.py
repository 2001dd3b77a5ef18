"""Runs the service against the real WorkOS: ``python -m gram_sync.run --help``, or ``make run``."""

import argparse
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import django
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from gram_sync.components import listen, migrate, start_postgres, start_web, start_worker
from gram_sync.embedded_postgres import server
from gram_sync.processes import PROJECT, ChildFailed, Children, Stopped

SECRET_KEY_FILE: Final = PROJECT / ".data" / "secret_key"

_DESCRIPTION: Final = """\
Run web process and worker together against WorkOS, until Ctrl-C or SIGTERM. Before that, the
settings are checked and the database is migrated. If one of the two ends, so does the other.
"""

_SETTINGS: Final = """\
settings, from the environment:
  WORKOS_API_KEY         needed: the secret key of the WorkOS environment
  WORKOS_WEBHOOK_SECRET  needed: the signing secret of the webhook endpoint
  DATABASE_URL           postgresql://...; without it, an embedded PostgreSQL is used
  SECRET_KEY             without it, one is made and kept in .data/secret_key
  ALLOWED_HOSTS          the host names that WorkOS and people reach this by, comma-separated
  HOST, PORT             where the web process listens: 127.0.0.1 and 8000
The README has the others.
"""


class CannotRun(Exception):
    """What a person has to mend first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped: 0 then; 1 if it can't run, or a process ends by itself."""
    _parser().parse_args(arguments)
    try:
        with Children() as children:
            _run(children)
    except Stopped:
        _say("Stopped.")
        return 0
    except (CannotRun, ChildFailed, server.ServerError, OSError) as error:
        print(error, file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"The embedded PostgreSQL may still run: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="python -m gram_sync.run",
        description=_DESCRIPTION,
        epilog=_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _run(children: Children) -> None:
    has_secret_key = bool(os.environ.get("SECRET_KEY", "").strip())
    if not has_secret_key:
        os.environ["SECRET_KEY"] = read_secret_key(SECRET_KEY_FILE) or secrets.token_urlsafe(50)
    _check_settings()
    with closing(_listener(os.environ)) as listener:
        if not has_secret_key:
            keep_secret_key(SECRET_KEY_FILE, os.environ["SECRET_KEY"])
            _say(f"SECRET_KEY is not set: using the one kept in {_shown(SECRET_KEY_FILE)}.")
        _start_all(children, listener)
    try:
        children.wait()
    except Stopped:
        _say("Stopping, once the worker has finished its tasks. Ctrl-C ends it at once.")
        raise


# Before anything is started -----------------------------------------------------------------


def read_secret_key(path: Path) -> str | None:
    """The key that was kept, or None. Raises OSError."""
    with suppress(FileNotFoundError):
        return path.read_text().strip() or None
    return None


def keep_secret_key(path: Path, secret_key: str) -> None:
    """Write a key that only this user can read; nothing if it is there already. Raises OSError."""
    if read_secret_key(path) == secret_key:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secret_key}\n")


def _check_settings() -> None:
    """Raise CannotRun with a line for each thing that has to be set."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gram_sync.settings")
    try:
        django.setup()
        messages = checks.run_checks()
    except ImproperlyConfigured as error:
        raise CannotRun(str(error)) from None
    errors = [message for message in messages if message.is_serious()]
    if errors:
        raise CannotRun("\n".join(f"{error.msg} {error.hint or ''}".rstrip() for error in errors))


def _listener(environment: Mapping[str, str]) -> socket.socket:
    host = environment.get("HOST", "").strip() or "127.0.0.1"
    port = environment.get("PORT", "").strip() or "8000"
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise CannotRun(f"PORT must be a number from 1 to 65535, not {port!r}.")
    try:
        return listen(host, int(port))
    except OSError as error:
        # gaierror numbers are negative, and its texts short; bind's text repeats the address.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise CannotRun(
            f"The web process can't listen on {host}, port {port}: {reason}. "
            "PORT and HOST can name another place."
        ) from None


# Starting -----------------------------------------------------------------------------------


def _start_all(children: Children, listener: socket.socket) -> None:
    from django.conf import settings  # noqa: PLC0415 - they read the environment, just prepared

    host, port = listener.getsockname()[:2]
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "gram_sync.embedded_postgres":
        _start_embedded(children, Path(database["OPTIONS"]["data_dir"]))
    _check_database()
    _say("Migrating the database ...")
    migrate(children)
    # Started last and stopped first is the web process: then nothing new is announced to the
    # worker, which is given the time that its tasks may take.
    start_worker(children, patience=2 * settings.Q_CLUSTER["timeout"])
    start_web(children, listener)
    _explain(host, port, settings.ALLOWED_HOSTS)


def _start_embedded(children: Children, data_dir: Path) -> None:
    if server.is_running(data_dir):
        _say(f"Using the embedded PostgreSQL in {_shown(data_dir)}, which runs already.")
        return
    _say(f"DATABASE_URL is not set: starting the embedded PostgreSQL in {_shown(data_dir)} ...")
    start_postgres(children, data_dir)


def _check_database() -> None:
    from django.db import OperationalError, connection  # noqa: PLC0415 - after django.setup()

    try:
        connection.ensure_connection()
    except OperationalError as error:
        raise CannotRun(f"The database can't be used: {error}") from None
    finally:
        connection.close()


def _explain(host: str, port: int, allowed_hosts: Sequence[str]) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    manage = f"{_shown(Path(sys.executable))} manage.py"
    _say(
        f"""
gram-sync runs: web process on http://{place}, and worker. Ctrl-C stops both.

Webhook  In the WorkOS dashboard, register https://YOUR-HOST/webhooks/workos/ for the
         events organization.created, organization.updated, organization.deleted.
         ALLOWED_HOSTS must have YOUR-HOST; it is {",".join(allowed_hosts)}.
Admin    http://{place}/admin/
         To make a login, in another terminal, with DATABASE_URL as it is here:
         {manage} createsuperuser --skip-checks
"""
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
