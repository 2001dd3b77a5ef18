"""Runs web process and worker against WorkOS, until Ctrl-C or SIGTERM: ``make run``.

Before that, it checks the settings and migrates. If one of the two ends, so does the other. The
demo starts the same processes; their ``options`` are those of ``Children.start``.
"""

import os
import secrets
import socket
import sys
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

import django
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection

from gram_sync import environment as env
from gram_sync.embedded_postgres import server
from gram_sync.processes import PROJECT, Child, ChildFailed, Children, Stopped
from orgs.conf import sync_settings

MANAGE: Final = (sys.executable, str(PROJECT / "manage.py"))

_RUNNING = """
gram-sync runs: web process on http://{place}, and worker. Ctrl-C stops both.

Webhook  In the WorkOS dashboard, register https://YOUR-HOST/webhooks/workos/ for the
         events of what WORKOS_RESOURCES names: {resources}.
         docs/settings.md lists them. ALLOWED_HOSTS must have YOUR-HOST; it is {hosts}.
Admin    http://{place}/admin/
         To make a login, in another terminal, with the same settings:
         {python} manage.py createsuperuser
"""

_say = partial(print, flush=True)


def main() -> int:
    """Run until stopped: 0 then; 1 if it can't run, or a process ends by itself."""
    try:
        with Children() as children:
            _run(children)
    except Stopped:
        _say("Stopped.")
        return 0
    except (ChildFailed, ImproperlyConfigured, OperationalError, OSError) as error:
        print(error, file=sys.stderr)
    return 1


def _run(children: Children) -> None:
    env.read_env_file()
    made_key = "" if env.text("SECRET_KEY") else secrets.token_urlsafe(50)
    if made_key:
        os.environ["SECRET_KEY"] = made_key
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gram_sync.settings")
    django.setup()
    if errors := [message for message in checks.run_checks() if message.is_serious()]:
        lines = (f"{error.msg} {error.hint or ''}".rstrip() for error in errors)
        raise ImproperlyConfigured("\n".join(lines))
    host, port = env.text("HOST", "127.0.0.1"), env.number("PORT", 8000, least=1, most=65535)
    try:
        listener = listen(host, port)
    except OSError as error:
        raise ImproperlyConfigured(
            f"The web process can't listen on {host}, port {port}: {error}. "
            "If an earlier run was killed, end its gunicorn and sync_worker; or set PORT and HOST."
        ) from None
    with closing(listener):
        if made_key:
            _keep_secret_key(made_key)
        _start_all(children, listener)
    try:
        children.wait()
    except Stopped:
        _say("Stopping, once the worker has finished its tasks. Ctrl-C ends it at once.")
        raise


def _keep_secret_key(secret_key: str) -> None:
    """Add it to .env, so that commands in another terminal have the same. Raises OSError."""
    path = env.env_file()
    _say(f"SECRET_KEY is not set: one is made, and kept in {path}.")
    path.touch(mode=0o600)
    with path.open("a") as file:
        # The last line may have no end.
        file.write(f"\nSECRET_KEY={secret_key}\n")


def _start_all(children: Children, listener: socket.socket) -> None:
    from django.conf import settings  # noqa: PLC0415 - they read the environment, just prepared

    if data_dir := settings.DATABASES["default"]["OPTIONS"].get("data_dir"):
        _say(f"DATABASE_URL is not set: using the embedded PostgreSQL in {data_dir}.")
        if not server.is_running(data_dir):
            children.callback(server.stop, data_dir)
    connection.ensure_connection()  # which starts the embedded PostgreSQL
    connection.close()
    _say("Migrating the database ...")
    migrate(children)
    # Started last and stopped first is the web process: then nothing new is announced to the
    # worker, which ends by itself within its tasks' time limit.
    start_worker(children, patience=settings.Q_CLUSTER["timeout"] + 10)
    host, port = listener.getsockname()[:2]
    start_web(children, listener)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    hosts, python = ",".join(settings.ALLOWED_HOSTS), os.path.relpath(sys.executable)
    resources = ", ".join(sync_settings().resources)
    _say(_RUNNING.format(place=place, hosts=hosts, python=python, resources=resources))


# The parts, also of the demo ----------------------------------------------------------------


def migrate(children: Children, **options: Any) -> None:
    """Bring the tables up to date. Raises ChildFailed."""
    children.run("manage.py migrate", (*MANAGE, "migrate", "--noinput", "--verbosity=0"), **options)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, before anything serves it: its port is known, and taken from
    others. Port 0 is any that is free. Raises OSError."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=1024)


def start_worker(children: Children, **options: Any) -> Child:
    """Start the worker. Stopped, it has its ``patience`` to finish its tasks."""
    return children.start("The worker", (*MANAGE, "sync_worker"), **options)


def start_web(children: Children, listener: socket.socket, **options: Any) -> Child:
    """Start gunicorn on a listening socket, which is closed here, and wait until it answers."""
    gunicorn = (sys.executable, "-m", "gunicorn", "gram_sync.wsgi")
    with listener:
        fd, (host, port) = listener.fileno(), listener.getsockname()[:2]
        command = (*gunicorn, "--config", "python:gram_sync.gunicorn", "--bind", f"fd://{fd}")
        web = children.start("The web process", command, pass_fds=(fd,), **options)
    children.wait_until(lambda: _answers(host, port), "answered", of=web, seconds=60)
    return web


def _answers(host: str, port: int) -> bool:
    """Return True if HTTP is spoken there; any status will do."""
    with suppress(OSError, HTTPException), closing(HTTPConnection(host, port, timeout=2)) as http:
        http.request("GET", "/healthz", headers={"Host": "localhost"})
        return bool(http.getresponse().status)
    return False


if __name__ == "__main__":
    sys.exit(main())
