"""Names Gram organizations: slug bases and candidates. Pure."""

import unicodedata
from collections.abc import Iterator
from hashlib import sha256

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
