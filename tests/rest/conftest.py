"""The embedded server of the end-to-end tests, asked over HTTP."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.running import RunningServer


@dataclass(frozen=True)
class Answer:
    """A response, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of a refusal."""
        return next(str(detail["reason"]) for detail in self.json()["details"] if "reason" in detail)


class Http:
    """Asks a server as programs do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._place = urlsplit(url).netloc

    def __call__(self, verb: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """`body` is sent as JSON unless it is bytes."""
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        said = {**({"Content-Type": "application/json"} if sent is not body else {}), **(headers or {})}
        connection = HTTPConnection(self._place, timeout=60)
        try:
            connection.request(verb, path, sent, said)
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()


@pytest.fixture
def http(server: RunningServer) -> Http:
    """A caller of the shared server."""
    return Http(server.url)
