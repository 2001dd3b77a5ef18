"""Plays the day: changes things in the fake WorkOS, and waits until the mirror shows them."""

from collections.abc import Callable
from itertools import count
from typing import Any, Final

from gram_sync.demo.mirror import Mirror
from gram_sync.demo.output import Output
from gram_sync.demo.stage import Stage

#: Should a task be lost, the minute schedule starts the next.
_PATIENCE_SECONDS: Final = 90
_SIGN_UP: Final = """
    INSERT INTO organization_metadata (id, name, slug)
    VALUES ('gram-initech', 'Initech', 'initech-hq')
"""


class Story:
    """One day. An organization goes by the name that it had at first."""

    def __init__(self, stage: Stage, mirror: Mirror, output: Output) -> None:
        self.stage, self.mirror, self.output = stage, mirror, output
        self.workos, self.say = stage.workos, output.say
        self.workos_ids: dict[str, str] = {}
        self.malformed: list[str] = []
        """The ids of the malformed events."""
        self._numbers = count(1)

    def play(self) -> None:
        """Play everything, and wait until nothing is under way. Raises Stopped and ChildFailed."""
        self._creations()
        self._slug_that_is_taken()
        self._webhooks()
        self._bad_event_and_deletion()
        self._wait_for(self._is_idle, "completed everything")

    def _creations(self) -> None:
        self._title("Organizations are created in WorkOS")
        self.say("WorkOS", "creates Acme, Acme Labs and Globex, and sends a webhook for each.")
        self.say("webhooks", "only notify: the worker reads WorkOS's ordered list of events.")
        for name in ("Acme", "Acme Labs", "Globex"):
            self._create(name)
        slugs = ", ".join(self._row(name).slug for name in self.workos_ids)
        self.say("mirror", f"has a row for each, with the slugs {slugs}.")
        self.say("mirror", "writes the rows' ids to WorkOS, which keeps them as external_id.")

        self._title("Organizations that come with an external_id")
        self.say("Gram", "signs up Initech: its own INSERT, id gram-initech, slug initech-hq.")
        self.mirror.connection.execute(_SIGN_UP)
        self.say("WorkOS", "creates Initech as gram-initech, and Hooli as gram-hooli.")
        self._create("Initech", "gram-initech")
        self._create("Hooli", "gram-hooli")
        row = self._row("Initech")
        self.say("mirror", f"links the row {row.id}. Its slug is still {row.slug}.")
        self.say("mirror", f"inserts a row {self._row('Hooli').id} for Hooli, which had none.")

    def _slug_that_is_taken(self) -> None:
        self._title("A rename to a name whose slug is taken")
        self.say("WorkOS", "renames Acme Labs to Acme. The slug of that name, acme, is taken.")
        error = self.mirror.try_blind_upsert(self._row("Acme Labs").id, "Acme", "acme")
        self.say(
            "before",
            "This failure is why the project exists. INSERT ... ON CONFLICT (id) DO UPDATE wrote "
            f"the slug, too. Tried here and rolled back, PostgreSQL says: {error}. The event "
            "failed, and was retried forever.",
        )
        slug = self._rename("Acme Labs", "Acme").slug
        self.say("mirror", f"has the name. The slug is still {slug}: it is chosen once.")

    def _webhooks(self) -> None:
        self._title("Webhooks that arrive out of order, and twice")
        self.say("WorkOS", "renames Globex to Globex Corp, then to Globex International.")
        self.workos.repeat_deliveries(2)
        self.workos.hold_deliveries()
        self.workos.update_organization(self.workos_ids["Globex"], name="Globex Corp")
        self.workos.update_organization(self.workos_ids["Globex"], name="Globex International")
        number = self.workos.release_deliveries(order="reversed")
        self.workos.repeat_deliveries(1)
        self.say("webhooks", f"arrive {number} times: the second rename first, and each twice.")
        name = self._row("Globex", name="Globex International").name
        self.say("mirror", f"has {name}: each event is applied once, in WorkOS's order.")

        self._title("A webhook that is lost")
        self.say("WorkOS", "creates Umbrella. Its webhook is lost.")
        self.workos.drop_deliveries(1)
        self._create("Umbrella")
        self.say("WorkOS", "renames Hooli to Hooli Inc. That webhook arrives.")
        self._rename("Hooli", "Hooli Inc.")
        self.say("mirror", f"has both, Umbrella with the slug {self._row('Umbrella').slug}.")
        self.say("mirror", "reads all that is new at any webhook, and once a minute without one.")

    def _bad_event_and_deletion(self) -> None:
        self._title("A malformed event")
        self.say("WorkOS", "lists an event of Hooli's without a name, then renames Initech.")
        data = {"object": "organization", "id": self.workos_ids["Hooli"], "name": None}
        event: Any = self.workos.emit({"event": "organization.updated", "data": data})
        self.malformed.append(event["id"])
        name = self._rename("Initech", "Initech Ltd").name
        self.say("mirror", f"has {name}: one bad event stops nothing.")
        self.say("mirror", "parks the bad one: the admin shows what was sent, and what is wrong.")

        self._title("A deletion")
        self.say("WorkOS", "deletes Globex International.")
        self.workos.delete_organization(self.workos_ids["Globex"])
        slug = self._row("Globex", disabled=True).slug
        self.say("mirror", f"disables the row. It stays, and so does its slug, {slug}.")

    def _title(self, text: str) -> None:
        self.output.lines(f"\n{next(self._numbers)}. {text}", "bold")

    def _create(self, name: str, external_id: str | None = None) -> None:
        created = self.workos.create_organization(name=name, external_id=external_id)
        self.workos_ids[name] = created["id"]

    def _rename(self, first_name: str, name: str) -> Any:
        self.workos.update_organization(self.workos_ids[first_name], name=name)
        return self._row(first_name, name=name)

    def _row(self, first_name: str, **columns: object) -> Any:
        """Return the row that is linked to an organization, once its columns are like these."""
        columns["workos_id"] = self.workos_ids[first_name]
        return self._wait_for(
            lambda: [row for row in self.mirror.rows() if columns.items() <= row._asdict().items()],
            f"applied what happened to {first_name}",
        )[0]

    def _is_idle(self) -> bool:
        last = self.workos.all_events()[-1]["id"]
        return self.workos.wait_for_deliveries(timeout=0) and self.mirror.is_idle_after(last)

    def _wait_for(self, condition: Callable[[], Any], done: str) -> Any:
        of, seconds = self.stage.worker, _PATIENCE_SECONDS
        return self.stage.children.wait_until(condition, done, of=of, seconds=seconds)
