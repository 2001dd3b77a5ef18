"""The admin and the probes at a million rows: every list, filter, order and search, and a row."""

import re
import time
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.admin import site
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client

from tests.system.benchmark import databases
from tests.system.benchmark.figures import Figure, Scaled, figure

_ROWS = 1_000_000
_SEARCHES = ("nothing has this", "acme", "a", f"org_01{5:024}")

_FILL = (
    """
    INSERT INTO organization_metadata (id, name, slug, workos_id, disabled_at)
    SELECT 'gram-' || n, 'Acme ' || md5(n::text), 'acme-' || n,
        CASE WHEN n % 100 > 0 THEN 'org_01' || lpad(n::text, 24, '0') END,
        CASE WHEN n % 50 = 1 THEN now() END
    FROM generate_series(1, {rows}) AS n
    """,
    """
    INSERT INTO workos_event (id, type, workos_organization_id, organization_id, occurred_at,
        announced_at, processed_at, outcome, error)
    SELECT 'event_01' || lpad(n::text, 24, '0'), 'organization.updated',
        'org_01' || lpad(n::text, 24, '0'), 'gram-' || n, at, at, at,
        CASE WHEN n % 20000 = 0 THEN 'parked' WHEN n % 5 = 0 THEN 'stale' ELSE 'updated' END,
        CASE WHEN n % 20000 = 0 THEN 'data.name is wrong' ELSE '' END
    FROM (SELECT n, now() - n * interval '5 seconds' AS at FROM generate_series(1, {rows}) AS n)
    """,
    """
    INSERT INTO workos_external_id_write_back (organization_id, workos_id)
    SELECT id, workos_id FROM organization_metadata WHERE workos_id IS NOT NULL
    """,
    """
    INSERT INTO workos_user (workos_id, email, first_name, last_name)
    SELECT 'user_01' || lpad(n::text, 24, '0'), n || '@acme.example', 'A' || n, 'B' || n
    FROM generate_series(1, {rows}) AS n
    """,
    """
    INSERT INTO workos_organization_membership
        (workos_id, workos_organization_id, workos_user_id, status, role_slugs)
    SELECT 'om_01' || lpad(n::text, 24, '0'), 'org_01' || lpad((n % 50000)::text, 24, '0'),
        'user_01' || lpad(n::text, 24, '0'), 'active', '{{member}}'
    FROM generate_series(1, {rows}) AS n
    """,
    "INSERT INTO workos_sync_cursor (stream) VALUES ('organizations')",
)


def measure(scaled: Scaled) -> Iterator[Figure]:
    rows = scaled(_ROWS)
    databases.use(databases.EMPTY)
    databases.execute(*(statement.format(rows=rows) for statement in _FILL), "VACUUM ANALYZE")
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(User.objects.create_superuser("admin"))
    probes = ["/readyz", "/metrics"]
    for name, goal, urls in (
        ("page of the admin", "≤ 1.5", [*_pages(client)]),
        ("probe", "≤ 0.3", probes),
    ):
        slowest, url = max((min(_seconds(client, url) for _ in range(2)), url) for url in urls)
        what = f"slowest {name} of {len(urls)}, {rows:,} rows a table"
        yield figure(what, slowest, "s", goal, beside=url)


def _pages(client: Client) -> Iterator[str]:
    for model in filter(site.is_registered, apps.get_app_config("orgs").get_models()):
        table: Any = site.get_model_admin(model)
        url = f"/admin/orgs/{model._meta.model_name}/"
        yield url
        for offered in table.list_filter:
            choices = offered.lookups(offered, None, None)
            yield from (f"{url}?{offered.parameter_name}={value}" for value, _ in choices)
        orders = set(re.findall(r'href="\?o=(\d+)', client.get(url).content.decode()))
        yield from (f"{url}?o={sign}{order}" for order in sorted(orders) for sign in ("", "-"))
        yield from (f"{url}?q={text}" for text in _SEARCHES if table.search_fields)
        for key in model._default_manager.values_list("pk", flat=True)[:1]:
            yield f"{url}{quote(key)}/change/"


def _seconds(client: Client, url: str) -> float:
    began_at = time.perf_counter()
    if (status := client.get(url).status_code) not in (200, 503):
        raise RuntimeError(f"{url} is answered {status}")
    return time.perf_counter() - began_at
