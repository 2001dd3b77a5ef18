"""Keeps objects of one kind: found by id and by other fields, and listed in pages."""

import itertools
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .messages import JsonObject, Page, Refused, encode


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a listing asks for; at most one of `after` and `before` is set.

    `where` is an indexed field and its value. `wanted` looks at the fields of what that leaves.
    """

    limit: int
    after: str | None = None
    before: str | None = None
    descending: bool = True
    where: tuple[str, str] | None = None
    wanted: Callable[[JsonObject], bool] | None = None


class Store:
    """The fields of objects in the order they were created in. Not thread-safe.

    No two of them have the same id, or the same value of a `unique` field unless it is None.
    By `indexed` fields, they are found without looking at all of them.
    """

    def __init__(
        self, name: str, *, unique: Sequence[str] = (), indexed: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._indexed = indexed
        self._all: list[JsonObject] = []
        self._by_id: dict[str, JsonObject] = {}
        self._unique: dict[str, dict[str, JsonObject]] = {field: {} for field in unique}
        self._lists: dict[tuple[str, str], list[JsonObject]] = defaultdict(list)
        # By id. It outlives the object: a listing goes on after one that was deleted meanwhile.
        self._sequences: dict[str, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[JsonObject]:
        return iter(self._all)

    def get(self, identifier: str) -> JsonObject:
        """Return one by its id; Refused (404) if there is none."""
        return self._found(self._by_id.get(identifier), identifier)

    def find(self, identifier: str) -> JsonObject | None:
        return self._by_id.get(identifier)

    def get_by(self, field: str, value: str) -> JsonObject:
        """Return one by a unique field; Refused (404) if there is none."""
        return self._found(self._unique[field].get(value), value)

    def where(self, field: str, value: str) -> list[JsonObject]:
        """Return those with a value of an indexed field, in order of creation."""
        return list(self._lists.get((field, value), []))

    def add(self, fields: JsonObject) -> None:
        """Put in a new one at the end; ValueError if its id is taken, Refused a unique field."""
        if fields["id"] in self._by_id:
            raise ValueError(f"there is {self.name.lower()} {fields['id']} already")
        self._check_unique(fields)
        self._sequences[fields["id"]] = next(self._numbers)
        self._put(fields)

    def replace(self, fields: JsonObject) -> None:
        """Put a changed one in the place it has; Refused if a unique field is taken."""
        self._check_unique(fields)
        self.remove(fields["id"])
        self._put(fields)

    def remove(self, identifier: str) -> JsonObject:
        """Take one out, and return it; Refused (404) if there is none."""
        fields = self.get(identifier)
        del self._by_id[identifier]
        for field, taken in self._unique.items():
            taken.pop(fields[field], None)
        for listed in self._lists_of(fields):
            del listed[bisect_left(listed, self._sequence(fields), key=self._sequence)]
        return fields

    def page(self, query: ListQuery, show: Callable[[JsonObject], JsonObject]) -> Page:
        """Return one page of the listing; Refused (400) for a cursor that never was one.

        `show` makes of the fields what is served.
        """
        found = self._all if query.where is None else self._lists.get(query.where, [])
        if query.wanted is not None:
            found = [fields for fields in found if query.wanted(fields)]
        start, end = self._window(query, found)
        listed = found[start:end]
        preceded, followed = start > 0, end < len(found)
        if query.descending:
            listed.reverse()
            preceded, followed = followed, preceded
        return Page(
            bodies=[encode(show(fields)) for fields in listed],
            before=listed[0]["id"] if listed and preceded else None,
            after=listed[-1]["id"] if listed and followed else None,
            last=listed[-1]["id"] if listed else None,
        )

    def _window(self, query: ListQuery, found: Sequence[JsonObject]) -> tuple[int, int]:
        """Return the first place of the page, counted from the oldest, and the one after it."""
        towards_newer = query.descending == (query.before is not None)
        cursor = query.before if query.before is not None else query.after
        if cursor is not None and cursor not in self._sequences:
            raise Refused(400, "invalid_cursor", f"Unknown cursor: '{cursor}'.")
        sequence = None if cursor is None else self._sequences[cursor]
        if towards_newer:
            start = 0 if sequence is None else bisect_right(found, sequence, key=self._sequence)
            return start, min(start + query.limit, len(found))
        end = len(found) if sequence is None else bisect_left(found, sequence, key=self._sequence)
        return max(end - query.limit, 0), end

    def _sequence(self, fields: JsonObject) -> int:
        return self._sequences[fields["id"]]

    def _found(self, fields: JsonObject | None, identifier: str) -> JsonObject:
        if fields is None:
            raise Refused(404, "entity_not_found", f"{self.name} not found: '{identifier}'.")
        return fields

    def _lists_of(self, fields: JsonObject) -> Iterator[list[JsonObject]]:
        yield self._all
        for field in self._indexed:
            if (value := fields.get(field)) is not None:
                yield self._lists[field, value]

    def _check_unique(self, fields: JsonObject) -> None:
        for field, taken in self._unique.items():
            holder = taken.get(fields[field])
            if holder is not None and holder["id"] != fields["id"]:
                message = f"The {field} provided is already in use by another {self.name.lower()}."
                raise Refused(400, f"{field}_already_used", message)

    def _put(self, fields: JsonObject) -> None:
        self._by_id[fields["id"]] = fields
        for field, taken in self._unique.items():
            if fields[field] is not None:
                taken[fields[field]] = fields
        for listed in self._lists_of(fields):
            insort(listed, fields, key=self._sequence)
