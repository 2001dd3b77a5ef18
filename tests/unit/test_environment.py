"""What the service's settings are read with: the environment and .env."""

from collections.abc import Callable
from errno import EACCES
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from django.core.exceptions import ImproperlyConfigured

from gram_sync import environment as env

NAME = "A_VARIABLE"

size = partial(env.number, default=100, least=1, most=100)
seconds = partial(env.number, default=60.0, least=0, most=86_400)


def log_level(name: str) -> str:
    return env.choice(name, "INFO", "DEBUG")


def database(*keys: str) -> Callable[[str], Any]:
    return lambda name: [(env.database_url(name) or {}).get(key) for key in keys]


whole = database("HOST", "PORT", "NAME", "USER", "PASSWORD")
A_URL = "postgres://u:p%2Fw@db:6432/gram"
AT_URL = "postgresql://u:p@w%40@db/gram"
place = database("HOST", "PORT", "OPTIONS")
options = database("OPTIONS")
OPTIONS_URL = "postgresql://u@db/gram?sslmode=require&options=-c%20a%3Db"


@pytest.mark.parametrize(
    ("read", "written", "value"),
    [
        pytest.param(env.text, "", "", id="no text"),
        pytest.param(env.text, " $HOME ", "$HOME", id="a text that looks like a variable"),
        pytest.param(env.items, "one, two,,", ["one", "two"], id="several"),
        pytest.param(size, "", 100, id="no number"),
        pytest.param(size, "7", 7, id="a whole number"),
        pytest.param(seconds, "2.5", 2.5, id="a number"),
        pytest.param(env.switch, "", False, id="no switch"),
        pytest.param(env.switch, "On", True, id="on"),
        pytest.param(env.switch, "0", False, id="off"),
        pytest.param(log_level, "", "INFO", id="no choice"),
        pytest.param(log_level, "debug", "DEBUG", id="a choice"),
        pytest.param(env.database_url, "", None, id="no database"),
        pytest.param(whole, A_URL, ["db", "6432", "gram", "u", "p/w"], id="a database"),
        pytest.param(whole, AT_URL, ["db", "", "gram", "u", "p@w@"], id="a password with an @"),
        pytest.param(
            options, OPTIONS_URL, [{"sslmode": "require", "options": "-c a=b"}], id="its options"
        ),
        pytest.param(place, "postgresql:///gram?host=/run&port=7", ["/run", "7", {}], id="a query"),
        pytest.param(place, "postgresql://u@%2Frun/gram", ["/run", "", {}], id="a socket"),
        pytest.param(options, "postgresql:///?service=gram", [{"service": "gram"}], id="a service"),
    ],
)
def test_a_variable_is_read(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[str], Any], written: str, value: object
) -> None:
    monkeypatch.setenv(NAME, written)

    assert read(NAME) == value


SECRET = "postgresql://u:secret"
A_SIZE, SOME_SECONDS = "must be a whole number from 1 to 100", "must be a number from 0 to 86400"
A_SWITCH = "must be false or 0 or no or off or true or 1 or yes or on"
NO_URL = (
    "must look like postgresql://user:password@host:5432/name, with %XX for special characters, "
    "and with no options but libpq's (such as ?sslmode=require)"
)


@pytest.mark.parametrize(
    ("read", "written", "message"),
    [
        pytest.param(size, "ten", f"{A_SIZE}, not 'ten'", id="no whole number"),
        pytest.param(size, "101", f"{A_SIZE}, not '101'", id="too much"),
        pytest.param(seconds, "nan", f"{SOME_SECONDS}, not 'nan'", id="NaN"),
        pytest.param(seconds, "inf", f"{SOME_SECONDS}, not 'inf'", id="infinity"),
        pytest.param(env.switch, "maybe", f"{A_SWITCH}, not 'maybe'", id="no switch"),
        pytest.param(log_level, "loud", "must be INFO or DEBUG, not 'loud'", id="no choice"),
        pytest.param(env.database_url, "mysql://u:secret@h/db", NO_URL, id="another server"),
        pytest.param(env.database_url, "host=h dbname=db password=secret", NO_URL, id="no URL"),
        pytest.param(env.database_url, f"{SECRET}/cret@h/db", NO_URL, id="a slash in a password"),
        pytest.param(env.database_url, f"{SECRET}@h/db?odd=1", NO_URL, id="an unknown option"),
        pytest.param(env.database_url, f"{SECRET}@h", NO_URL, id="no name"),
    ],
)
def test_what_cant_be_read_is_said_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[str], Any], written: str, message: str
) -> None:
    monkeypatch.setenv(NAME, written)

    with pytest.raises(ImproperlyConfigured) as refused:
        read(NAME)

    assert str(refused.value) == f"{NAME} {message}"


# The file -----------------------------------------------------------------------------------


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "file"
    variables = {"ENV_FILE": str(path), "SET": "in the environment", "A": ""}
    monkeypatch.setattr("os.environ", variables)
    monkeypatch.setattr("environ.Env.ENVIRON", variables)
    return path


def test_the_file_adds_what_is_not_set(env_file: Path) -> None:
    env.read_env_file()
    assert env.text("A") == "", "there is no file"

    env_file.write_text("\ufeff# a comment\n\nexport A=1\nB='two words'\nSET=in the file\nC=$x#y\n")
    env.read_env_file()

    read = [env.text(name) for name in ("A", "B", "SET", "C")]
    assert read == ["1", "two words", "in the environment", "$x#y"]


def test_the_file_that_may_not_be_read_is_named(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(EACCES, "Permission denied")

    env_file.write_text("A=1")
    monkeypatch.setattr(Path, "read_text", refuse)

    with pytest.raises(ImproperlyConfigured, match=f"^{env_file} can't be read: Permission denied"):
        env.read_env_file()


@pytest.mark.parametrize("line", ["WORKOS_API_KEY: sk_secret", "WORKOS_API_KEY = sk_secret"])
def test_a_line_that_cant_be_read_is_named_and_not_shown(env_file: Path, line: str) -> None:
    env_file.write_text(f"A=1\n{line}\n")

    with pytest.raises(ImproperlyConfigured) as refused:
        env.read_env_file()

    assert str(refused.value) == f"{env_file}, line 2, must look like NAME=value"
    env_file.write_bytes(b"\xff\xfe")
    with pytest.raises(ImproperlyConfigured, match=f"^{env_file}, line 1, must look like"):
        env.read_env_file()
