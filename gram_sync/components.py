"""Starts what gram-sync consists of: PostgreSQL if it is the embedded one, web process, worker."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from gram_sync.embedded_postgres import server
from gram_sync.processes import PROJECT, Child, Children

MANAGE: Final = (sys.executable, str(PROJECT / "manage.py"))
_POSTGRES: Final = (sys.executable, "-m", "gram_sync.embedded_postgres")


def start_postgres(children: Children, data_dir: Path, *, log: Path | None = None) -> str:
    """Start the embedded PostgreSQL, to be stopped after the children that follow; return its URL.

    Raises ChildFailed and ``server.ServerError``.
    """
    children.at_the_end(lambda: stop_postgres(data_dir))
    # Interrupted half-way, it would leave a server that can't be found yet, and so not be stopped.
    children.run(
        "The start of the embedded PostgreSQL",
        (*_POSTGRES, "start", str(data_dir)),
        log=log,
        interruptible=False,
    )
    return server.start(data_dir)


def stop_postgres(data_dir: Path) -> None:
    """Stop the embedded PostgreSQL, whatever Ctrl-C says meanwhile. Raises CalledProcessError."""
    subprocess.run(
        (*_POSTGRES, "stop", str(data_dir)),
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )


def migrate(
    children: Children,
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> None:
    """Bring the tables up to date. Raises ChildFailed."""
    command = (*MANAGE, "migrate", "--noinput", "--verbosity=0")
    children.run("manage.py migrate", command, environment=environment, log=log)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens: its port is known, and taken from others, before anything serves it.

    Port 0 is any that is free. Raises OSError.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=1024)


def start_web(
    children: Children,
    listener: socket.socket,
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Child:
    """Start gunicorn on a listening socket, which is closed here, and wait until it answers."""
    command = (
        *(sys.executable, "-m", "gunicorn", "gram_sync.wsgi"),
        *("--config", "python:gram_sync.gunicorn"),
        *("--bind", f"fd://{listener.fileno()}"),
    )
    with listener:
        host, port = listener.getsockname()[:2]
        web = children.start(
            "The web process",
            command,
            environment=environment,
            log=log,
            pass_fds=(listener.fileno(),),
        )
    children.wait_until(lambda: _answers(host, port), "answered", of=web, seconds=60)
    return web


def start_worker(
    children: Children,
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    patience: float,
) -> Child:
    """Start django-q2's cluster. Stopped, it has ``patience`` seconds to finish its tasks."""
    return children.start(
        "The worker",
        (*MANAGE, "qcluster"),
        environment=environment,
        log=log,
        patience=patience,
    )


def _answers(host: str, port: int) -> bool:
    """Whether HTTP is spoken there; any status will do, such as 400 for a host not allowed."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to go to, not bind
    connection = HTTPConnection(everywhere.get(host, host), port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True
