"""Tests of a host project, run by its `manage.py test`: no key is set, and tasks are in sync."""

import json
import time

from django.conf import settings
from django.test import TestCase, TransactionTestCase, override_settings
from django_q.conf import Conf
from django_q.models import OrmQ, Task

from orgs import tasks
from orgs.models import Organization
from orgs.testing import FakeWorkOS, sign

SECRET = "whsec_of_a_test"


class MirrorTests(TransactionTestCase):
    def test_a_webhook_enqueues_a_task_that_a_test_runs(self) -> None:
        assert Conf.SYNC
        assert not settings.WORKOS_SYNC.get("API_KEY")
        with FakeWorkOS() as workos:
            keys = {"API_KEY": workos.api_key, "BASE_URL": workos.base_url}
            with override_settings(WORKOS_SYNC={**keys, "WEBHOOK_SECRETS": SECRET}):
                workos.create_organization(name="Acme", external_id="gram-1")
                body = json.dumps(workos.all_events()[0])
                answer = self.client.post(
                    "/mirror/webhooks/workos/",
                    body,
                    content_type="application/json",
                    headers={
                        "WorkOS-Signature": sign(SECRET, body.encode(), int(time.time() * 1000))
                    },
                )
                assert answer.status_code == 204
                assert (OrmQ.objects.count(), Task.objects.count()) == (1, 0)
                assert not Organization.objects.exists()

                tasks.sync_events()

        assert Organization.objects.get().name == "Acme"


class ShopTests(TestCase):
    """Tests of what is the project's own, with rows that it made by itself, in two databases."""

    databases = "__all__"

    def test_a_row(self) -> None:
        Organization.objects.create(id="gram-1", name="Acme", slug="acme")

        assert self.client.get("/mirror/healthz").status_code == 200
        assert self.client.get("/mirror/readyz").status_code == 503
