"""Keeps objects of one kind: found by id and by other fields, and listed in pages."""

import itertools
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from .messages import JsonObject, Page, Refused, encode

_BY_SEQUENCE: Final = attrgetter("sequence")


@dataclass(frozen=True, slots=True)
class Item:
    """One object, its place in the order of creation, and what it is served as if it is ready."""

    sequence: int
    fields: JsonObject
    body: bytes | None = None

    @property
    def id(self) -> str:
        """WorkOS's id of it."""
        identifier: str = self.fields["id"]
        return identifier


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
    """Objects in the order they were created in. Not thread-safe.

    No two of them have the same id, or the same value of a `unique` field unless it is None.
    By `indexed` fields, they are found without looking at all of them.
    """

    def __init__(
        self, name: str, *, unique: Sequence[str] = (), indexed: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._indexed = indexed
        self._all: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._unique: dict[str, dict[str, Item]] = {field: {} for field in unique}
        self._lists: dict[tuple[str, str], list[Item]] = defaultdict(list)
        # Outlives the object: a listing goes on after one that was deleted meanwhile.
        self._sequences: dict[str, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._all)

    def get(self, identifier: str) -> Item:
        """Return one by its id; Refused (404) if there is none."""
        return self._found(self._by_id.get(identifier), identifier)

    def find(self, identifier: str) -> Item | None:
        """Return one by its id, or None."""
        return self._by_id.get(identifier)

    def get_by(self, field: str, value: str) -> Item:
        """Return one by a unique field; Refused (404) if there is none."""
        return self._found(self._unique[field].get(value), value)

    def where(self, field: str, value: str) -> list[Item]:
        """Return those with a value of an indexed field, in order of creation."""
        return list(self._lists.get((field, value), []))

    def add(self, fields: JsonObject, body: bytes | None = None) -> Item:
        """Put in a new one at the end; ValueError if its id is taken, Refused a unique field."""
        if fields["id"] in self._by_id:
            message = f"there is {self.name.lower()} {fields['id']} already"
            raise ValueError(message)
        self._check_unique(fields)
        item = Item(next(self._numbers), fields, body)
        self._sequences[item.id] = item.sequence
        for listed in self._lists_of(item):
            listed.append(item)
        self._index(item)
        return item

    def replace(self, fields: JsonObject, body: bytes | None = None) -> Item:
        """Put a changed one in the place it has; Refused if a unique field is taken."""
        old = self.get(fields["id"])
        self._check_unique(fields)
        changed = Item(old.sequence, fields, body)
        self._forget_unique(old)
        for listed in self._lists_of(old):
            del listed[bisect_left(listed, old.sequence, key=_BY_SEQUENCE)]
        for listed in self._lists_of(changed):
            insort(listed, changed, key=_BY_SEQUENCE)
        self._index(changed)
        return changed

    def remove(self, identifier: str) -> Item:
        """Take one out; Refused (404) if there is none."""
        item = self.get(identifier)
        self._forget_unique(item)
        del self._by_id[identifier]
        for listed in self._lists_of(item):
            del listed[bisect_left(listed, item.sequence, key=_BY_SEQUENCE)]
        return item

    def page(
        self, query: ListQuery, show: Callable[[JsonObject], JsonObject] | None = None
    ) -> Page:
        """Return one page of the listing; Refused (400) for a cursor that never was one.

        `show` makes of the fields what is served, where that is not ready.
        """
        items = self._all if query.where is None else self._lists.get(query.where, [])
        if query.wanted is not None:
            items = [item for item in items if query.wanted(item.fields)]
        start, end = self._window(query, items)
        listed = items[start:end]
        preceded, followed = start > 0, end < len(items)
        if query.descending:
            listed.reverse()
            preceded, followed = followed, preceded
        return Page(
            bodies=[
                item.body or encode(show(item.fields) if show else item.fields) for item in listed
            ],
            before=listed[0].id if listed and preceded else None,
            after=listed[-1].id if listed and followed else None,
            last=listed[-1].id if listed else None,
        )

    def _window(self, query: ListQuery, items: Sequence[Item]) -> tuple[int, int]:
        """Return the first place of the page, counted from the oldest, and the one after it."""
        towards_newer = query.descending == (query.before is not None)
        cursor = query.before if query.before is not None else query.after
        sequence = None if cursor is None else self._sequence(cursor)
        if towards_newer:
            start = 0 if sequence is None else bisect_right(items, sequence, key=_BY_SEQUENCE)
            return start, min(start + query.limit, len(items))
        end = len(items) if sequence is None else bisect_left(items, sequence, key=_BY_SEQUENCE)
        return max(end - query.limit, 0), end

    def _sequence(self, cursor: str) -> int:
        try:
            return self._sequences[cursor]
        except KeyError:
            raise Refused(400, "invalid_cursor", f"Unknown cursor: '{cursor}'.") from None

    def _found(self, item: Item | None, identifier: str) -> Item:
        if item is None:
            raise Refused(404, "entity_not_found", f"{self.name} not found: '{identifier}'.")
        return item

    def _lists_of(self, item: Item) -> list[list[Item]]:
        return [
            self._all,
            *(
                self._lists[field, value]
                for field in self._indexed
                if (value := item.fields.get(field)) is not None
            ),
        ]

    def _check_unique(self, fields: JsonObject) -> None:
        for field, taken in self._unique.items():
            holder = taken.get(fields[field])
            if holder is not None and holder.id != fields["id"]:
                message = f"The {field} provided is already in use by another {self.name.lower()}."
                raise Refused(400, f"{field}_already_used", message)

    def _index(self, item: Item) -> None:
        self._by_id[item.id] = item
        for field, taken in self._unique.items():
            if item.fields[field] is not None:
                taken[item.fields[field]] = item

    def _forget_unique(self, item: Item) -> None:
        for field, taken in self._unique.items():
            if item.fields[field] is not None:
                del taken[item.fields[field]]
