"""Keys of an identity provider at an address: fetched when needed, renewed, bounded, and not believed from anybody."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from atomas import Client, UnauthenticatedError
from server.adapters.json_web_tokens import JsonWebTokens
from server.adapters.key_sets import MAX_BYTES, PAUSE_SECONDS, STALE_SECONDS, KeySetUrl
from server.bootstrap import trust
from server.domain.errors import AtomasError, Reason
from server.settings import Settings
from tests.security.served import served
from tests.unit.conftest import World


class Provider(http.server.BaseHTTPRequestHandler):
    """Gives what the test lays out."""

    server: "Website"

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Website(http.server.ThreadingHTTPServer):
    """On loopback, with what it was asked and what it answers."""

    asked, status, elsewhere, content = 0, 200, "", b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/keys"

    def publish(self, *keys: tuple[str, Any]) -> None:
        """Public halves, under their names."""
        public = [{**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": kid} for kid, key in keys]
        self.content = json.dumps({"keys": public}).encode()


@pytest.fixture
def provider() -> Iterator[Website]:
    with website() as site:
        yield site


@contextmanager
def website() -> Iterator[Website]:
    site = Website(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def new_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def test_keys_are_fetched_once_renewed_when_old_and_asked_for_when_unknown(provider: Website) -> None:
    first, second, clock = new_key(), new_key(), Clock()
    provider.publish(("first", first))
    keys = KeySetUrl(provider.url, refresh_seconds=600, clock=clock)
    assert provider.asked == 0
    assert all(keys.key("first") is not None for _ in range(5))
    assert provider.asked == 1
    # A new key counts at once; names that nobody has do not make us ask again and again.
    provider.publish(("first", first), ("second", second))
    clock.now += PAUSE_SECONDS
    assert keys.key("second") is not None
    assert [keys.key(f"nonsense {number}") for number in range(20)] == [None] * 20
    assert provider.asked == 2
    # A withdrawn key ends with the next renewal.
    provider.publish(("second", second))
    clock.now += 599
    assert keys.key("first") is not None
    clock.now += 2
    assert keys.key("first") is None
    assert provider.asked == 3


@pytest.mark.parametrize("trouble", ["away", "error", "nonsense", "too long", "redirect"])
def test_a_provider_in_trouble_leaves_the_former_keys_for_a_day(provider: Website, trouble: str) -> None:
    clock = Clock()
    provider.publish(("first", new_key()))
    with website() as other:
        other.publish(("forged", new_key()))
        keys = KeySetUrl(provider.url, refresh_seconds=600, clock=clock)
        assert keys.key("first") is not None
        match trouble:
            case "away":
                provider.shutdown()
                provider.server_close()
            case "error":
                provider.status = 500
            case "nonsense":
                provider.content = b"<html>"
            case "too long":
                provider.content = b" " * MAX_BYTES + provider.content
            case _:
                provider.status, provider.elsewhere = 302, other.url
        clock.now += 601
        assert keys.key("first") is not None
        assert keys.key("forged") is None
        clock.now += STALE_SECONDS
        assert keys.key("first") is None
        assert other.asked == 0


@pytest.mark.parametrize(
    "url", ["http://id.example.org/keys", "ftp://127.0.0.1/keys", "file:///etc/keys", "https://", "nonsense", "http://[::"]
)
def test_an_address_where_others_could_put_in_keys_is_refused(url: str) -> None:
    with pytest.raises(AtomasError) as refused:
        trust(Settings(jwt_jwks_url=url, jwt_audience="atomas"))
    assert refused.value.reason is Reason.INVALID_ARGUMENT


def test_keys_come_from_one_place(tmp_path: Path) -> None:
    with pytest.raises(AtomasError, match="from one place"):
        trust(Settings(jwt_jwks_url="https://id.example.org/keys", jwt_jwks_file=tmp_path / "keys", jwt_audience="atomas"))


def test_a_bearer_of_a_token_is_let_in_with_keys_from_an_address(provider: Website, world: World) -> None:
    signer = new_key()
    provider.publish(("first", signer))
    tokens = JsonWebTokens(KeySetUrl(provider.url, 600), "atomas", "", "scope")
    claims = {"sub": "ada", "aud": "atomas", "exp": time.time() + 300, "scope": "atomas:-:read"}
    good = jwt.encode(claims, signer, algorithm="ES256", headers={"kid": "first"})
    forged = jwt.encode(claims, new_key(), algorithm="ES256", headers={"kid": "first"})
    with served(world.ports, tokens=tokens) as service:
        with Client(service.address, api_key=good) as client:
            assert list(client.libraries()) == []
        with Client(service.address, api_key=forged) as client, pytest.raises(UnauthenticatedError):
            list(client.libraries())
