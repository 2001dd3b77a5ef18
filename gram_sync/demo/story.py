"""Plays the day: changes things in the fake WorkOS, and waits until the mirror shows them."""

from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.errors import UniqueViolation
from psycopg.rows import namedtuple_row

from gram_sync.demo.output import lines, say
from gram_sync.demo.stage import Stage

#: Every row of the mirror, in the order of WorkOS; every membership with organization and user.
ROWS: Final = """
    SELECT id, name, slug, workos_id, disabled_at IS NOT NULL AS disabled
    FROM organization_metadata ORDER BY workos_id
"""
MEMBERS: Final = """
    SELECT o.name AS organization, u.email, m.status, o.sso_enabled,
        array_to_string(m.role_slugs, ', ') AS roles
    FROM workos_organization_membership AS m
    JOIN workos_user AS u ON u.workos_id = m.workos_user_id
    JOIN organization_metadata AS o ON o.workos_id = m.workos_organization_id
    WHERE m.deleted_at IS NULL AND u.deleted_at IS NULL ORDER BY u.email, o.name
"""


class Story:
    """One day. An organization goes by the name that it had at first."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.workos = stage, stage.workos
        how: Any = {"autocommit": True, "row_factory": namedtuple_row}
        self.mirror = psycopg.connect(stage.database_url, **how)
        self.workos_ids: dict[str, str] = {}
        self.first_slugs: dict[str, str] = {}  # by id of the row, when it was first shown
        self.malformed = ""  # the id of the malformed event

    def play(self) -> None:
        """Play everything, and wait until nothing is under way. Raises Stopped and ChildFailed."""
        self._creations_and_slugs()
        self._webhooks()
        self._bad_event_and_deletion()
        self._members_and_sign_on()
        self._wait_for(self._is_idle, "completed everything")

    def read(self, query: str) -> list[Any]:
        """Return the rows of the mirror that a query finds, as named tuples."""
        return self.mirror.execute(query).fetchall()

    def _creations_and_slugs(self) -> None:
        lines("\n1. Organizations are created in WorkOS", "bold")
        say("WorkOS", "creates Acme, Acme Labs and Globex, and sends a webhook for each.")
        say("webhooks", "only notify: the worker reads WorkOS's ordered list of events.")
        for name in ("Acme", "Acme Labs", "Globex"):
            self._create(name)
        slugs = ", ".join(self._row(name).slug for name in self.workos_ids)
        say("mirror", f"has a row for each, with the slugs {slugs}.")
        say("mirror", "writes the rows' ids to WorkOS, which keeps them as external_id.")

        lines("\n2. Organizations that come with an external_id", "bold")
        say("Gram", "signs up Initech: its own INSERT, id gram-initech, slug initech-hq.")
        insert = "INSERT INTO organization_metadata (id, name, slug) VALUES (%s, %s, %s)"
        self.mirror.execute(insert, ["gram-initech", "Initech", "initech-hq"])
        say("WorkOS", "creates Initech as gram-initech, and Hooli as gram-hooli.")
        self._create("Initech", "gram-initech")
        self._create("Hooli", "gram-hooli")
        row = self._row("Initech")
        say("mirror", f"links the row {row.id}. Its slug is still {row.slug}.")
        say("mirror", f"inserts a row {self._row('Hooli').id} for Hooli, which had none.")

        lines("\n3. A rename to a name whose slug is taken", "bold")
        say("WorkOS", "renames Acme Labs to Acme. The slug of that name, acme, is taken.")
        upsert = "ON CONFLICT (id) DO UPDATE SET name = excluded.name, slug = excluded.slug"
        values, error = [self._row("Acme Labs").id, "Acme", "acme"], "no error"
        try:
            with self.mirror.transaction(force_rollback=True):
                self.mirror.execute(f"{insert} {upsert}", values)
        except UniqueViolation as violation:
            error = str(violation.diag.message_primary)
        say(
            "before",
            "This failure is why the project exists. INSERT ... ON CONFLICT (id) DO UPDATE wrote "
            f"the slug, too. Tried here and rolled back, PostgreSQL says: {error}. The event "
            "failed, and was retried forever.",
        )
        slug = self._rename("Acme Labs", "Acme").slug
        say("mirror", f"has the name. The slug is still {slug}: it is chosen once.")

    def _webhooks(self) -> None:
        lines("\n4. Webhooks that arrive out of order, and twice", "bold")
        say("WorkOS", "renames Globex to Globex Corp, then to Globex International.")
        self.workos.repeat_deliveries(2)
        self.workos.hold_deliveries()
        self.workos.update_organization(self.workos_ids["Globex"], name="Globex Corp")
        self.workos.update_organization(self.workos_ids["Globex"], name="Globex International")
        number = self.workos.release_deliveries(order="reversed")
        self.workos.repeat_deliveries(1)
        say("webhooks", f"arrive {number} times: the second rename first, and each twice.")
        name = self._row("Globex", name="Globex International").name
        say("mirror", f"has {name}: each event is applied once, in WorkOS's order.")

        lines("\n5. A webhook that is lost", "bold")
        say("WorkOS", "creates Umbrella. Its webhook is lost.")
        self.workos.drop_deliveries(1)
        self._create("Umbrella")
        say("WorkOS", "renames Hooli to Hooli Inc. That webhook arrives.")
        self._rename("Hooli", "Hooli Inc.")
        say("mirror", f"has both, Umbrella with the slug {self._row('Umbrella').slug}.")
        say("mirror", "reads all that is new at any webhook, and once a minute without one.")

    def _bad_event_and_deletion(self) -> None:
        lines("\n6. A malformed event", "bold")
        say("WorkOS", "lists an event of Hooli's without a name, then renames Initech.")
        data = {"object": "organization", "id": self.workos_ids["Hooli"], "name": None}
        event: Any = self.workos.emit({"event": "organization.updated", "data": data})
        self.malformed = event["id"]
        name = self._rename("Initech", "Initech Ltd").name
        say("mirror", f"has {name}: one bad event stops nothing.")
        say("mirror", "parks the bad one: the admin shows what was sent, and what is wrong.")

        lines("\n7. A deletion", "bold")
        say("WorkOS", "deletes Globex International.")
        self.workos.delete_organization(self.workos_ids["Globex"])
        slug = self._row("Globex", disabled=True).slug
        say("mirror", f"disables the row. It stays, and so does its slug, {slug}.")

    def _members_and_sign_on(self) -> None:
        lines("\n8. Members, roles and single sign-on", "bold")
        say("WorkOS", "has Ada join Acme as a member, and then makes her an admin.")
        acme = self.workos_ids["Acme"]
        ada = self.workos.users.create(email="ada@acme.example")["id"]
        for slug in ("member", "admin"):
            self.workos.roles.create(slug=slug)
        member = self.workos.memberships.create(user_id=ada, organization_id=acme, role="member")
        self.workos.memberships.update(member["id"], roles=["admin"])
        say("WorkOS", "activates a connection of Acme's: single sign-on.")
        self.workos.connections.create(name="Okta", organization_id=acme, state="active")
        shown = self._wait_for(
            lambda: [one for one in self.read(MEMBERS) if one.sso_enabled],
            "applied the membership and the connection",
        )[0]
        say("mirror", f"has {shown.email} in {shown.organization}, as {shown.roles}.")
        say("mirror", "shows sso_enabled in the organization's row.")

    def _create(self, name: str, external_id: str | None = None) -> None:
        created = self.workos.create_organization(name=name, external_id=external_id)
        self.workos_ids[name] = created["id"]

    def _rename(self, first_name: str, name: str) -> Any:
        self.workos.update_organization(self.workos_ids[first_name], name=name)
        return self._row(first_name, name=name)

    def _row(self, first_name: str, **columns: object) -> Any:
        """Return the row that is linked to an organization, once its columns are like these."""
        columns["workos_id"] = self.workos_ids[first_name]
        row = self._wait_for(
            lambda: [row for row in self.read(ROWS) if columns.items() <= row._asdict().items()],
            f"applied what happened to {first_name}",
        )[0]
        self.first_slugs.setdefault(row.id, row.slug)
        return row

    def _is_idle(self) -> bool:
        """Return True if the last event was applied, and WorkOS has every id."""
        query = """
            SELECT FROM workos_sync_cursor WHERE last_event_id = %s
            AND NOT EXISTS (SELECT FROM workos_event WHERE outcome IS NULL)
            AND NOT EXISTS (SELECT FROM workos_external_id_write_back)
        """
        last = self.workos.all_events()[-1]["id"]
        is_sent = self.workos.wait_for_deliveries(timeout=0)
        return is_sent and self.mirror.execute(query, [last]).rowcount > 0

    def _wait_for(self, condition: Callable[[], Any], done: str) -> Any:
        # Should a task be lost, the minute schedule starts the next.
        return self.stage.children.wait_until(condition, done, of=self.stage.worker, seconds=90)
