"""The Django backend: Django's own for PostgreSQL, which first sees to it that the server runs.

Nothing is started before something connects. ``OPTIONS["data_dir"]`` says where the data is.
"""

from typing import Any

from django.db.backends.postgresql import base, client
from psycopg.conninfo import conninfo_to_dict

from gram_sync.embedded_postgres import server


def _started(settings_dict: dict[str, Any]) -> dict[str, Any]:
    return dict(conninfo_to_dict(server.start(settings_dict["OPTIONS"]["data_dir"])))


class DatabaseClient(client.DatabaseClient):
    """``manage.py dbshell``, with the psql that came with the server."""

    @classmethod
    def settings_to_cmd_args_env(cls, settings_dict: dict[str, Any], parameters: Any) -> Any:
        place = _started(settings_dict)
        settings_dict |= {name.upper(): place[name] for name in ("host", "port", "user")}
        (_, *arguments), env = super().settings_to_cmd_args_env(settings_dict, parameters)
        return [str(server.program("psql")), *arguments], env


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's PostgreSQL connection to the embedded server."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        # Django asks each time it connects, and only then, so a server that has died meanwhile is
        # started again.
        place = _started(self.settings_dict)
        params = super().get_connection_params()
        del params["data_dir"]  # ours, unknown to libpq
        return place | params
