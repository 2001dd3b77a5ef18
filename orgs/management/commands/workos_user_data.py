"""``manage.py workos_user_data``: shows what is held about one user, and erases it."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error as DatabaseError

from orgs.db.errors import describe
from orgs.domain.naming import counted, is_storable, one_line
from orgs.management.report import write
from orgs.services.erasure import (
    NotErased,
    count_about,
    count_payloads_about,
    erase_user,
    held_about,
)


class Command(BaseCommand):
    help = (
        "Shows as JSON what is held about one user of WorkOS: the user, memberships, invitations, "
        "directory users, and how many payloads of parked events. With --erase, empties names, "
        "addresses and everything else that WorkOS said, for good; ids and times stay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user_id", metavar="ID", help="the WorkOS id of the user: user_…")
        flag: Any = {"action": "store_true"}
        parser.add_argument("--erase", **flag, help="erase it; asks first")
        parser.add_argument("--no-input", **flag, help="with --erase: do not ask, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        user_id, who = options["user_id"], one_line(options["user_id"])
        if not is_storable(user_id):
            raise CommandError(f"no user can have this id: {who}")
        try:
            if not options["erase"]:
                held = held_about(user_id) | {"parked_payloads": count_payloads_about(user_id)}
                write(self.stdout, json.dumps(held, indent=2, cls=DjangoJSONEncoder))
                return
            payloads = counted(count_payloads_about(user_id), "parked payload")
            what = f"{counted(count_about(user_id), 'row')} and {payloads} about {who}"
            if not options["no_input"] and not self._is_confirmed(user_id, what):
                raise CommandError("nothing was erased")
            write(self.stdout, f"erased {erase_user(user_id)} of {what}")
        except KeyboardInterrupt:
            raise CommandError("interrupted; run it again", returncode=130) from None
        except NotErased as error:
            raise CommandError(f"{error}; run it again") from None
        except DatabaseError as error:
            # In one line: a traceback would show what a row holds.
            raise CommandError(f"the database: {describe(error)}; run it again") from None

    def _is_confirmed(self, user_id: str, what: str) -> bool:
        question = f"Erase {what}? This can't be undone. Type the id again: "
        try:
            return input(question).strip() == user_id
        except EOFError:
            return False
