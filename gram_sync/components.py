"""Starts what gram-sync consists of. The options of each are those of ``Children.start``."""

import socket
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from gram_sync.embedded_postgres import server
from gram_sync.processes import PROJECT, Child, Children

MANAGE: Final = (sys.executable, str(PROJECT / "manage.py"))


def start_postgres(children: Children, data_dir: Path) -> str:
    """Start the embedded PostgreSQL, to be stopped after the children that follow; return its URL.
    Raises ``server.ServerError``."""
    children.callback(server.stop, data_dir)
    url = server.start(data_dir)
    children.check()
    return url


def migrate(children: Children, **options: Any) -> None:
    """Bring the tables up to date. Raises ChildFailed."""
    children.run("manage.py migrate", (*MANAGE, "migrate", "--noinput", "--verbosity=0"), **options)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, before anything serves it: its port is known, and taken from
    others. Port 0 is any that is free. Raises OSError."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=1024)


def start_web(children: Children, listener: socket.socket, **options: Any) -> Child:
    """Start gunicorn on a listening socket, which is closed here, and wait until it answers."""
    gunicorn = (sys.executable, "-m", "gunicorn", "gram_sync.wsgi")
    with listener:
        fd, (host, port) = listener.fileno(), listener.getsockname()[:2]
        command = (*gunicorn, "--config", "python:gram_sync.gunicorn", "--bind", f"fd://{fd}")
        web = children.start("The web process", command, pass_fds=(fd,), **options)
    children.wait_until(lambda: _answers(host, port), "answered", of=web, seconds=60)
    return web


def start_worker(children: Children, **options: Any) -> Child:
    """Start the worker. Stopped, it has its ``patience`` to finish its tasks."""
    return children.start("The worker", (*MANAGE, "sync_worker"), **options)


def _answers(host: str, port: int) -> bool:
    """Return True if HTTP is spoken there; any status will do, such as 400 for another host."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to go to, not bind
    connection = HTTPConnection(everywhere.get(host, host), port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return bool(connection.getresponse().status)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
