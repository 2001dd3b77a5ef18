"""What can be set, in one typed place: the keys of ``settings.WORKOS_SYNC`` and their defaults."""

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from orgs import __version__
from orgs.domain.resources import DEFAULT, NAMES
from orgs.domain.types import ORGANIZATION


class Secret(str):
    """Text that does not show itself in a traceback, an error page or a log of locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


def _number(default: float, least: float, most: float) -> Any:
    """Declare a number with the least and the most that it may be."""
    return field(default=default, metadata={"range": (least, most)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSettings:
    """The keys of ``settings.WORKOS_SYNC``, in lower case. Times are in seconds."""

    api_key: Secret = Secret()
    base_url: str = "https://api.workos.com"
    resources: tuple[str, ...] = DEFAULT
    """What is mirrored other than organizations: names of ``orgs.domain.resources``."""
    webhook_secrets: tuple[Secret, ...] = ()
    """Any of them may have signed a webhook: two while one is being replaced."""
    environment_id: str = ""
    """WorkOS's id of the environment, for links to its dashboard; empty: no links."""
    hold_back_window: float = _number(60.0, 0, 86_400)
    """How long an announced event may stay unreadable before its object is asked for."""
    poll_pause: float = _number(1.0, 0.01, 60)
    """The waiting drain's pause between two reads: shorter at first, longer after errors."""
    drain_deadline: float = _number(50.0, 1, 100)
    """How long one drain may wait and work; well below the worker's ``timeout``."""
    page_size: int = _number(100, 1, 100)
    """Events a page; WorkOS allows 1 to 100."""
    lock_timeout: float = _number(5.0, 0.001, 60)
    """How long a transaction waits for any one lock of another program's."""
    request_timeout: float = _number(10.0, 0.1, 60)
    """How long a call to WorkOS waits for an answer."""
    requests_per_minute: int = _number(4_800, 60, 1_000_000)
    """How many requests all processes together send to WorkOS, which allows 6,000 a key."""
    erase_after_days: int = _number(30, 0, 36_500)
    """How long after its deletion the personal data of a person is kept."""
    ledger_retention_days: int = _number(90, 1, 36_500)
    """How long the ledger keeps events; parked ones and organizations' deletions stay for good."""


#: The least and the most that each number may be.
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    each.name: each.metadata["range"] for each in fields(SyncSettings) if each.metadata
}


def sync_settings() -> SyncSettings:
    """Return the settings in force; None is a key that is not set.

    Raises ``TypeError`` for a key that does not exist, and for what is not text and has to be.
    """
    written = getattr(settings, "WORKOS_SYNC", None) or {}
    if not isinstance(written, Mapping):
        raise TypeError(f"WORKOS_SYNC must be a dictionary, not {type(written).__name__}")
    configured = {str(key).lower(): value for key, value in written.items() if value is not None}
    unknown = configured.keys() - {field.name for field in fields(SyncSettings)}
    if unknown:
        raise TypeError(f"WORKOS_SYNC has no setting named {', '.join(sorted(unknown)).upper()}")
    readers = {"api_key": _secret, "webhook_secrets": _secrets, "resources": _resources}
    read = {key: reader(configured[key]) for key, reader in readers.items() if key in configured}
    return SyncSettings(**configured | read)


def _secret(written: object) -> Secret:
    return Secret(_text("API_KEY", written))


def _secrets(written: object) -> tuple[Secret, ...]:
    return tuple(map(Secret, _texts("WEBHOOK_SECRETS", written)))


def _resources(written: object) -> tuple[str, ...]:
    """Names, or a text that lists them with commas; organizations are always among them."""
    several = ",".join(_texts("RESOURCES", written)).split(",")
    names = {ORGANIZATION, *(name.strip() for name in several if name.strip())}
    if unknown := sorted(names - set(NAMES)):
        raise TypeError(
            f"WORKOS_SYNC['RESOURCES'] names {', '.join(unknown)}; there are {', '.join(NAMES)}"
        )
    return tuple(name for name in NAMES if name in names)


def _texts(name: str, written: object) -> list[str]:
    """One or several: a text is one, and not as many as it has characters."""
    # What is read but once, such as a generator, would be empty the next time.
    is_several = isinstance(written, Collection) and not isinstance(written, str)
    several: Any = written if is_several else [written]
    return [
        text for one in several if one and (text := _text(name, one, "text or a list of texts"))
    ]


def _text(name: str, written: object, kind: str = "text") -> str:
    # Without its value: it may be the secret, as bytes.
    if not isinstance(written, str):
        raise TypeError(f"WORKOS_SYNC[{name!r}] must be {kind}, not {type(written).__name__}")
    return written.strip()


def is_url(text: str, *schemes: str) -> bool:
    """Return True if it begins with one of the schemes, and can be parsed."""
    with suppress(ValueError):  # brackets that do not close, a port that is none
        return text.startswith(schemes) and urlsplit(text).port != 0
    return False


def described() -> str:
    """Return the release and what this process works with, in one line and without secrets."""
    current, database = sync_settings(), settings.DATABASES["default"]
    place = f"{database.get('HOST') or 'a local socket'}:{database.get('PORT') or 5432}"
    # Not parsed: it may be no address.
    url = re.sub("//[^/?#]*@", "//", str(current.base_url)).strip()
    return (
        f"release {__version__}, database {database.get('NAME')} at {place}, WorkOS at {url}, "
        f"resources {', '.join(current.resources)}"
    )


def least_task_timeout(current: SyncSettings) -> int:
    """Seconds within which a task ends by itself: a drain at its deadline, and after that a few
    calls and a few waits for locks."""
    return ceil(current.drain_deadline + 8 * current.request_timeout + 4 * current.lock_timeout)
