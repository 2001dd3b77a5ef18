"""The fake's controls from another process."""

import functools
import http.client
import inspect
import json
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from .controls import CONTROL_PATH, CONTROLS, Controls
from .messages import Json, Refused
from .resources import RESOURCES


class FakeWorkOSClient(Controls):
    """A fake at a base URL, with the very controls `FakeWorkOS` has.

    Whatever the fake has against a call is raised as Refused. No answer is an OSError.
    """

    def __init__(self, base_url: str, *, timeout: float = 60.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout
        for name, method in CONTROLS.items():
            setattr(self, name, self._remote(name, method))
        for name, kind in RESOURCES.items():
            methods = {it: self._remote(f"{name}.{it}", getattr(kind, it)) for it in kind.controls}
            setattr(self, name, SimpleNamespace(**methods))

    def _remote(self, name: str, method: Callable[..., Any]) -> Callable[..., Json]:
        """Return a method that is carried out by the fake, to which it sends its arguments."""
        bound = method.__get__(self)

        @functools.wraps(bound)
        def call(*positional: object, **keywords: object) -> Json:
            signature = inspect.signature(bound)
            arguments = signature.bind(*positional, **keywords).arguments
            for parameter in signature.parameters.values():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    arguments |= arguments.pop(parameter.name, {})
            return self._call(name, arguments)

        return call

    def _call(self, name: str, arguments: dict[str, object]) -> Json:
        body = json.dumps(arguments, default=_serializable)
        address = urlsplit(self.base_url).netloc
        connection = http.client.HTTPConnection(address, timeout=self._timeout)
        try:
            connection.request("POST", CONTROL_PATH + name, body)
            response = connection.getresponse()
            answer: Any = json.loads(response.read())
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            status, code = answer.get("status", response.status), answer.get("code", "")
            raise Refused(status, code, answer["message"])
        result: Json = answer
        return result


def _serializable(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a control takes plain JSON, not {value!r}")
