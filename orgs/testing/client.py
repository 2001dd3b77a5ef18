"""The fake's controls from another process."""

import functools
import http.client
import inspect
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from .controls import CONTROL_PATH, CONTROLS, Controls, keyword_arguments
from .messages import Json, Refused
from .resource import Resource
from .resources import RESOURCES


class FakeWorkOSClient(Controls):
    """A fake at a base URL, with the very controls `FakeWorkOS` has.

    Whatever the fake has against a call is raised as Refused. No answer is an OSError.
    """

    def __init__(self, base_url: str, *, timeout: float = 60.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout
        for name, kind in RESOURCES.items():
            setattr(self, name, _RemoteResource(self._call, name, kind))

    def _call(self, name: str, arguments: dict[str, object]) -> Json:
        body = json.dumps(arguments, default=_serializable)
        address = urlsplit(self.base_url).netloc
        connection = http.client.HTTPConnection(address, timeout=self._timeout)
        try:
            connection.request("POST", CONTROL_PATH + name, body)
            response = connection.getresponse()
            return _result(response.status, json.loads(response.read()))
        finally:
            connection.close()


class _RemoteResource:
    """A resource of the fake the client speaks to, with the same methods."""

    def __init__(
        self, call: Callable[[str, dict[str, object]], Json], name: str, kind: type[Resource]
    ) -> None:
        for method in kind.controls:
            setattr(self, method, _remote_method(call, f"{name}.{method}", getattr(kind, method)))


def _remote_method(
    call: Callable[[str, dict[str, object]], Json], name: str, method: Callable[..., Any]
) -> Callable[..., Json]:
    signature = inspect.signature(method)

    def remote(*positional: object, **keywords: object) -> Json:
        return call(name, keyword_arguments(signature, *positional, **keywords))

    return remote


def _result(status: int, answer: Any) -> Json:
    if status != http.HTTPStatus.OK:
        raise Refused(answer.get("status", status), answer.get("code", ""), answer["message"])
    result: Json = answer
    return result


def _serializable(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    message = f"a control takes plain JSON, not {value!r}"
    raise TypeError(message)


def _remote(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a control that is carried out by the fake the client speaks to."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: FakeWorkOSClient, *positional: object, **keywords: object) -> Json:
        return self._call(name, keyword_arguments(signature, *positional, **keywords))

    return call


for _name, _method in CONTROLS.items():
    setattr(FakeWorkOSClient, _name, _remote(_name, _method))
