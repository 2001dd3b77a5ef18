"""Names organizations and events, and makes text of others printable: slugs, derived ids. Pure."""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

from slugify import slugify

MAX_BASE_LENGTH = 80

#: Characters of a name that are read. A slug is chosen while rows are locked: a name of megabytes
#: must not hold them for minutes.
_MAX_READ = 1_000

#: Lengths of the suffix, tried in this order. Four digits distinguish the few namesakes that there
#: are; the whole digest can be taken only by a row that was made for the same WorkOS organization.
_SUFFIX_LENGTHS = (4, 8, 16, 32, 64)

_ASCII_WORDS = re.compile("[a-z0-9]+")


def slug_base(name: str, workos_id: str) -> str:
    """Return the slug that an organization gets if nobody has it: ASCII, 2 to 80 characters.

    A name that leaves fewer than two characters, such as "!", is replaced by the WorkOS id. Letters
    of other scripts are transliterated.
    """
    base = _slugified(name)
    return base if len(base) > 1 else _slugified(workos_id) or "organization"


def slug_candidates(base: str, workos_id: str) -> Iterator[str]:
    """Yield slugs to try: the base, then the base with ever more digits of the WorkOS id's hash.

    Derived and not random, so that a retried transaction asks for the same slug again.
    """
    yield base
    digest = sha256(workos_id.encode()).hexdigest()
    for length in _SUFFIX_LENGTHS:
        yield f"{base}-{digest[:length]}"


def _slugified(text: str) -> str:
    text = text[:_MAX_READ]
    # Of an ASCII word python-slugify only lowers the letters, and takes its time.
    slugs = _ASCII_WORDS.findall(text.lower()) if text.isascii() else map(slugify, _words(text))
    dashed = "-".join(filter(None, slugs))
    return dashed[:MAX_BASE_LENGTH].strip("-")


def _words(text: str) -> list[str]:
    # On a whole name python-slugify also joins "1,000" to "1000", drops typographic apostrophes and
    # decodes HTML entities. Here every run of other characters is one dash. Combining marks ("M")
    # belong to a word: vowels of Indic scripts, accents that stand alone.
    return "".join(
        char if char.isalnum() or unicodedata.category(char).startswith("M") else " "
        for char in text
    ).split()


# Ids --------------------------------------------------------------------------------

#: Every program of Gram's that derives an id uses this namespace, so they all agree on it.
_GRAM_NAMESPACE = uuid5(NAMESPACE_DNS, "speakeasy.com")


# A page asks for each a few times.
@lru_cache(maxsize=1_000)
def derived_id(workos_id: str) -> str:
    """Return the Gram id of a WorkOS organization: always the same for the same one."""
    return str(uuid5(_GRAM_NAMESPACE, workos_id))


def content_id(content: bytes) -> str:
    """Return the ledger's key for an event that has no usable id: a hash of what it holds."""
    return f"sha256:{sha256(content).hexdigest()}"


# Text -------------------------------------------------------------------------------

_MAX_LENGTH = 300

#: PostgreSQL's ``text`` can't hold a NUL, and UTF-8 no lone surrogate.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return ``text`` with what can't be stored or shown in escapes, as Python writes them.

    Line breaks, tabs and spaces stay. A control character would do something to the terminal that
    shows it.
    """
    if text.isprintable():
        return text
    # Python takes no space but the one of ASCII for printable, and no joiner of letters, as names
    # in Persian and Hindi have.
    return "".join(
        char
        if char.isprintable() or char in "\n\t\u200c\u200d" or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def is_storable(text: str) -> bool:
    """Return True if there is text, and PostgreSQL can store it as it is."""
    return text != "" and not _UNSTORABLE.search(text)


def without_unstorable(text: str) -> str:
    """Return ``text`` with a mark in place of each character that PostgreSQL can't store."""
    return _UNSTORABLE.sub("\ufffd", text)


NESTED_TOO_DEEPLY = "(nested too deeply to be shown)"


def json_text(raw: object) -> str:
    """Return JSON as ASCII text: ``jsonb`` would refuse a NUL, ``text`` a lone surrogate."""
    try:
        return json.dumps(raw)
    except RecursionError:
        return NESTED_TOO_DEEPLY


def one_line(said: object) -> str:
    """Return ``said`` as one short line that can be stored and shown."""
    return shortened(storable(" ".join(str(said).split())))


def shortened(line: str) -> str:
    """Return what fits into a line of a log."""
    return line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}…"


def counted(number: int, one: str, many: str = "") -> str:
    """Return the number with its noun in the singular or plural."""
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
