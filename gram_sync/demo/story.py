"""Plays the day: changes things at the WorkOS stand-in, and waits until the mirror shows them.

It waits for what is to be seen, in the mirror or at WorkOS, and never for an amount of time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from gram_sync.demo.comparison import Row
from gram_sync.demo.mirror import Mirror
from gram_sync.demo.narrator import Narrator
from gram_sync.demo.stage import Stage
from gram_sync.processes import TooSlow

#: How long something may take to be seen. Should a ring get lost, the minute schedule rings again.
_PATIENCE_SECONDS: Final = 90

_T = TypeVar("_T")


@dataclass(slots=True)
class Story:
    """One day, told while it happens. An organization goes by the name that it had at first."""

    stage: Stage
    mirror: Mirror
    narrator: Narrator
    malformed: list[str] = field(default_factory=list)
    """The ids of the malformed events."""
    workos_ids: dict[str, str] = field(default_factory=dict)

    def play(self) -> None:
        """Play everything. Raises Stopped, and ChildFailed also if the worker is waited for in
        vain."""
        scenes: tuple[tuple[str, Callable[[], None]], ...] = (
            ("Organizations are created in WorkOS", self._creations),
            ("Organizations that come with an external_id", self._creations_with_external_id),
            ("A rename into a sibling's slug", self._rename_into_sibling),
            ("Webhooks that come out of order, and twice", self._disorder),
            ("A webhook that is lost", self._loss),
            ("An event that is bad", self._malformed_event),
            ("A deletion", self._deletion),
        )
        for number, (title, scene) in enumerate(scenes, start=1):
            self.narrator.begin(f"{number}. {title}")
            scene()

    def settle(self) -> bool:
        """Wait until nothing is under way any more; False if that takes too long."""
        try:
            self._await(self._is_settled, "settled")
        except TooSlow:
            return False
        return True

    # The scenes

    def _creations(self) -> None:
        names = ("Acme", "Acme Labs", "Globex")
        self._tell("WorkOS", "creates Acme, Acme Labs and Globex, and posts a webhook for each.")
        for name in names:
            self._create(name)
        self._tell("webhooks", "only ring: the worker then reads WorkOS's ordered list of events.")
        slugs = ", ".join(self._await_row(name).slug for name in names)
        self._tell("mirror", f"has a row for each of them, with the slugs {slugs}.")
        self._await(lambda: all(map(self._external_id, names)), "told WorkOS our ids")
        self._tell(
            "WorkOS",
            "was told the rows' ids: it has them as external_id, and lists that as updates.",
        )

    def _creations_with_external_id(self) -> None:
        self._tell("Gram", "signs Initech up: its own INSERT, id gram-initech, slug initech-hq.")
        self.mirror.sign_up("gram-initech", "Initech", "initech-hq")
        self._tell(
            "WorkOS",
            "creates Initech with external_id gram-initech, and Hooli with external_id gram-hooli, "
            "which has no row yet.",
        )
        self._create("Initech", external_id="gram-initech")
        self._create("Hooli", external_id="gram-hooli")
        initech, hooli = self._await_row("Initech"), self._await_row("Hooli")
        self._tell(
            "mirror",
            f"linked the row {initech.id}, whose slug is still {initech.slug}, and made a row "
            f"{hooli.id} for Hooli.",
        )

    def _rename_into_sibling(self) -> None:
        acme, labs = self._await_row("Acme"), self._await_row("Acme Labs")
        self._tell("WorkOS", f"renames Acme Labs to Acme. The slug of that is {acme.slug}: taken.")
        self._rename("Acme Labs", "Acme")
        error = self.mirror.try_blind_upsert(labs.id, "Acme", acme.slug)
        self._tell(
            "before",
            "This is the failure this project exists for. INSERT ... ON CONFLICT (id) DO UPDATE "
            f"wrote the slug too; tried here and rolled back, PostgreSQL says: {error}. The event "
            "failed, and was retried for ever.",
        )
        row = self._await_row("Acme Labs", name="Acme")
        self._tell("mirror", f"took the name. The slug is still {row.slug}: chosen once, for good.")

    def _disorder(self) -> None:
        workos = self.stage.workos
        self._tell("WorkOS", "renames Globex to Globex Corp, then to Globex International.")
        workos.repeat_deliveries(2)
        workos.hold_deliveries()
        self._rename("Globex", "Globex Corp")
        self._rename("Globex", "Globex International")
        count = workos.release_deliveries(order="reversed")
        workos.repeat_deliveries(1)
        self._tell("webhooks", f"come {count} times: the second rename's first, and each twice.")
        row = self._await_row("Globex", name="Globex International")
        self._tell("mirror", f"calls it {row.name}: events are applied in WorkOS's order, once.")

    def _loss(self) -> None:
        self._tell("WorkOS", "creates Umbrella. Its webhook gets lost, and nobody is told.")
        self.stage.workos.drop_deliveries(1)
        self._create("Umbrella")
        self._tell("WorkOS", "renames Hooli to Hooli Inc. That webhook arrives.")
        self._rename("Hooli", "Hooli Inc.")
        row = self._await_row("Umbrella")
        self._await_row("Hooli", name="Hooli Inc.")
        self._tell(
            "mirror",
            f"has both, Umbrella with the slug {row.slug}: whichever webhook rings, all that is "
            "new is read. If none does, a schedule does once a minute.",
        )

    def _malformed_event(self) -> None:
        self._tell("WorkOS", "lists an event of Hooli's without a name, and renames Initech.")
        broken = {"object": "organization", "id": self.workos_ids["Hooli"], "name": None}
        event: Any = self.stage.workos.emit({"event": "organization.updated", "data": broken})
        self.malformed.append(event["id"])
        self._rename("Initech", "Initech Ltd")
        row = self._await_row("Initech", name="Initech Ltd")
        self._tell(
            "mirror",
            f"calls it {row.name}: one bad event stops nothing. It is parked, and shown in the "
            "admin with what WorkOS sent and what is wrong with it.",
        )

    def _deletion(self) -> None:
        self._tell("WorkOS", "deletes Globex International.")
        self.stage.workos.delete_organization(self.workos_ids["Globex"])
        row = self._await_row("Globex", disabled=True)
        self._tell("mirror", f"disabled the row. It is kept, and so is its slug, {row.slug}.")

    # What they are made of

    def _tell(self, who: str, text: str) -> None:
        self.narrator.tell(who, text)

    def _create(self, name: str, external_id: str | None = None) -> None:
        organization = self.stage.workos.create_organization(name=name, external_id=external_id)
        self.workos_ids[name] = organization["id"]

    def _rename(self, first_name: str, name: str) -> None:
        self.stage.workos.update_organization(self.workos_ids[first_name], name=name)

    def _external_id(self, first_name: str) -> str | None:
        organization = self.stage.workos.organization(self.workos_ids[first_name])
        return organization["external_id"] if organization else None

    def _await_row(
        self, first_name: str, *, name: str | None = None, disabled: bool = False
    ) -> Row:
        """The row that is linked to an organization, once it has that name and state."""

        def seen() -> Row | None:
            row = self.mirror.row_of(self.workos_ids[first_name])
            if row is None or (name is not None and row.name != name):
                return None
            return row if row.disabled or not disabled else None

        return self._await(seen, f"applied what became of {first_name}")

    def _await(self, condition: Callable[[], _T | None], done: str) -> _T:
        return self.stage.children.wait_until(
            condition, done, of=self.stage.worker, seconds=_PATIENCE_SECONDS
        )

    def _is_settled(self) -> bool:
        return (
            self.stage.workos.wait_for_deliveries(timeout=0)
            and self.mirror.position() == self.stage.workos.all_events()[-1]["id"]
            and all(entry.outcome for entry in self.mirror.ledger())
            and not self.mirror.pending_write_backs()
        )
