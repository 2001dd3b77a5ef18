"""Starts every process of the demo, each with an environment made for it alone."""

import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from gram_sync.embedded_postgres import server
from gram_sync.processes import Children
from gram_sync.run import MANAGE, listen, migrate, start_web, start_worker
from orgs.testing import FakeWorkOS

HOLD_BACK_SECONDS: Final = 2

# What the machine needs, and nothing that could lead a child to somebody's database or WorkOS.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")


class Stage:
    """All that runs, with its logs and a database of its own in a folder. Raises ChildFailed,
    ServerError, and OSError if the folder has been used before."""

    def __init__(self, children: Children, folder: Path) -> None:
        self.children = children
        logs, data_dir = folder / "logs", folder / "postgres"
        logs.mkdir(parents=True)
        self.password = secrets.token_urlsafe(9)
        listener = listen("127.0.0.1", 0)
        self.web_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        workos = FakeWorkOS(api_key="sk_demo", hold_back=HOLD_BACK_SECONDS)
        self.workos = children.enter_context(workos)
        secret = f"whsec_{secrets.token_hex()}"
        self.workos.add_webhook_endpoint(url=f"{self.web_url}/webhooks/workos/", secret=secret)
        children.callback(shutil.rmtree, data_dir, ignore_errors=True)
        children.callback(server.stop, data_dir)
        self.database_url = server.start(data_dir)
        children.check()
        environment = {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "ENV_FILE": os.devnull,
            "DATABASE_URL": self.database_url,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "WORKOS_RESOURCES": "organization_domain,connection,directory,user,membership,role",
            "WORKOS_API_KEY": self.workos.api_key,
            "WORKOS_BASE_URL": self.workos.base_url,
            "WORKOS_WEBHOOK_SECRET": secret,
            "DJANGO_SUPERUSER_PASSWORD": self.password,
            # Nobody wants to wait longer here; the defaults are for the real WorkOS.
            "POLL_PAUSE_SECONDS": "0.5",
            "DRAIN_DEADLINE_SECONDS": "20",
        }
        migrate(children, environment=environment, log=logs / "migrate.log")
        login = (*MANAGE, "createsuperuser", "--noinput", "--username=admin", "--email=")
        children.run("createsuperuser", login, environment=environment, log=logs / "login.log")
        self.worker = start_worker(children, environment=environment, log=logs / "worker.log")
        start_web(children, listener, environment=environment, log=logs / "web.log")
