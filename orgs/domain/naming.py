"""Names organizations and events, and makes text of others printable: slugs, derived ids. Pure."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

from slugify import slugify

MAX_BASE_LENGTH = 80
MIN_BASE_LENGTH = 2

#: Characters of a name that are read. A slug is chosen while rows are locked: a name of megabytes
#: must not hold them for minutes.
_MAX_READ = 1_000

#: Lengths of the suffix, tried in this order. Four digits tell apart the few namesakes that there
#: are; the whole digest can be taken only by a row that was made for the same WorkOS organization.
_SUFFIX_LENGTHS = (4, 8, 16, 32, 64)


def slug_base(name: str, workos_id: str) -> str:
    """The slug that an organization gets if nobody has it: ASCII, 2 to 80 characters.

    A name that leaves fewer than two characters ("!", "株" does not, it transliterates) is
    replaced by the WorkOS id.
    """
    base = _slugified(name)
    if len(base) < MIN_BASE_LENGTH:
        base = _slugified(workos_id)
    return base or "organization"


def slug_candidates(base: str, workos_id: str) -> Iterator[str]:
    """Slugs to try in order: the base, then the base with ever more digits of the WorkOS id's hash.

    Derived and not random, so that a retried transaction asks for the same slug again.
    """
    yield base
    digest = sha256(workos_id.encode()).hexdigest()
    for length in _SUFFIX_LENGTHS:
        yield f"{base}-{digest[:length]}"


def _slugified(text: str) -> str:
    # Word by word: on a whole name python-slugify also joins "1,000" to "1000", drops typographic
    # apostrophes and decodes HTML entities. Here every run of other characters is one dash.
    words = "".join(char if _belongs_to_a_word(char) else " " for char in text[:_MAX_READ]).split()
    # Of an ASCII word it only lowers the letters, and takes its time.
    slugs = (word.lower() if word.isascii() else slugify(word) for word in words)
    dashed = "-".join(filter(None, slugs))
    return dashed[:MAX_BASE_LENGTH].strip("-")


def _belongs_to_a_word(char: str) -> bool:
    # Combining marks ("M"): vowels of Indic scripts, accents that stand alone.
    return char.isalnum() or unicodedata.category(char).startswith("M")


# Ids --------------------------------------------------------------------------------

#: Every program of Gram's that derives an id uses this namespace, so they all agree on it.
_GRAM_NAMESPACE = uuid5(NAMESPACE_DNS, "speakeasy.com")


# A page asks for each a few times.
@lru_cache(maxsize=1_000)
def derived_id(workos_id: str) -> str:
    """The Gram id of the WorkOS organization ``workos_id``: always the same for the same one."""
    return str(uuid5(_GRAM_NAMESPACE, workos_id))


def content_id(content: bytes) -> str:
    """The ledger's key for an event that has no usable id: a hash of what it holds."""
    return f"sha256:{sha256(content).hexdigest()}"


# Text -------------------------------------------------------------------------------

_MAX_LENGTH = 300

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def storable(text: str) -> str:
    """``text`` as PostgreSQL can store it: what it can't (a NUL, a lone surrogate) in escapes."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can store ``text`` as it is, and it is some."""
    return text != "" and storable(text) == text


def printable(text: str) -> str:
    """Return ``text`` with escapes in place of what acts on a screen and is not seen.

    These are control characters but tabs and line feeds, those that turn the direction of text, and
    lone surrogates.
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(trouble: object) -> str:
    """``trouble`` as one short line that can be stored."""
    line = storable(" ".join(str(trouble).split()))
    return line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}…"
