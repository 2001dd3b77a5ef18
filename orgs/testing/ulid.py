"""ULIDs, the ids WorkOS gives: 26 characters that sort by the millisecond they were made in."""

import itertools
import secrets
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS: Final = range(120, -1, -10)
_TIME_CHARACTERS: Final = 10


class UlidFactory:
    """Makes ULIDs; thread-safe.

    Those of one millisecond increase strictly in the order they are made, even when other
    milliseconds come in between: the random part is one random prefix and a running number.
    """

    def __init__(self) -> None:
        self._prefix = secrets.randbits(40) << 40
        self._numbers = itertools.count()

    def make(self, milliseconds: int) -> str:
        """Return the next ULID of a millisecond, counted since 1970."""
        number = milliseconds << 80 | self._prefix | next(self._numbers)
        return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def ulid_milliseconds(ulid: str) -> int:
    """Return the millisecond since 1970 a ULID was made in; ValueError if it isn't one."""
    milliseconds = 0
    for character in ulid[:_TIME_CHARACTERS]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(character)
    return milliseconds
