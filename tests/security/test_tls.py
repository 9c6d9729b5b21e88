"""TLS for gRPC and HTTP, client certificates, renewal while the server runs; addresses that are refused."""

import ssl
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from atomas import Client, Credentials, UnavailableError
from server.domain.errors import AtomasError
from server.rpc.certificates import Certificates
from server.rpc.exposure import is_loopback, require_private_keeper, require_protection
from server.settings import Settings
from tests.security.certificates_for_tests import make_pair
from tests.security.served import served
from tests.unit.conftest import World


def https_status(port: int, ca: Path) -> int:
    connection = HTTPSConnection("127.0.0.1", port, timeout=10, context=ssl.create_default_context(cafile=str(ca)))
    try:
        connection.request("GET", "/openapi.json")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_renewed_certificate_is_used_without_a_restart(world: World, tmp_path: Path) -> None:
    first, second = make_pair("first"), make_pair("second")
    chain, key = first.write(tmp_path, "server")
    first_ca, _ = first.write(tmp_path, "first")
    second_ca, _ = second.write(tmp_path, "second")
    with served(world.ports, tls_certificate=chain, tls_key=key) as service:
        secret = service.key("-:read")

        def known(ca: Path) -> int:
            with Client(service.address, api_key=secret, credentials=Credentials(ca_certificate=ca), timeout_seconds=5) as client:
                return len(list(client.models()))

        assert known(first_ca) == 1
        assert https_status(service.http_port, first_ca) == 200
        with pytest.raises(UnavailableError):
            known(second_ca)
        chain.write_bytes(second.certificate)
        # Half a renewal changes nothing.
        assert known(first_ca) == 1
        key.write_bytes(second.key)
        assert known(second_ca) == 1
        assert https_status(service.http_port, second_ca) == 200
        with pytest.raises(UnavailableError):
            known(first_ca)
        with pytest.raises(ssl.SSLError):
            https_status(service.http_port, first_ca)


def test_mutual_tls_lets_in_nobody_without_a_known_certificate(world: World, tmp_path: Path) -> None:
    server, client_pair, stranger = make_pair("server"), make_pair("client"), make_pair("stranger")
    chain, key = server.write(tmp_path, "server")
    client_chain, client_key = client_pair.write(tmp_path, "client")
    stranger_chain, stranger_key = stranger.write(tmp_path, "stranger")
    with served(world.ports, tls_certificate=chain, tls_key=key, tls_client_ca=client_chain) as service:
        secret = service.key("-:read")
        good = Credentials(ca_certificate=chain, client_certificate=client_chain, client_key=client_key)
        with Client(service.address, api_key=secret, credentials=good) as client:
            assert len(list(client.models())) == 1
        for bad in (
            Credentials(ca_certificate=chain),
            Credentials(ca_certificate=chain, client_certificate=stranger_chain, client_key=stranger_key),
        ):
            with Client(service.address, api_key=secret, credentials=bad, timeout_seconds=5) as client, pytest.raises(UnavailableError):
                list(client.models())
        with pytest.raises((ssl.SSLError, ConnectionError)):
            https_status(service.http_port, chain)


def test_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    chain, _ = make_pair("one").write(tmp_path, "one")
    _, key = make_pair("two").write(tmp_path, "two")
    with pytest.raises(AtomasError, match="no certificate with its key"):
        Certificates(chain, key, None)
    with pytest.raises(AtomasError, match="TLS needs both"):
        Certificates.of(Settings(tls_certificate=chain))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/atomas.sock"])
def test_loopback_may_run_open(address: str) -> None:
    assert is_loopback(address)
    require_protection(Settings(listen=address))


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051", "example.org:50051", ":50051"])
def test_other_addresses_want_keys_and_tls_or_a_word(address: str, tmp_path: Path) -> None:
    protected = {"auth_required": True, "tls_certificate": tmp_path / "server.crt"}
    for lacking in ({}, {"auth_required": True}, {"tls_certificate": tmp_path / "server.crt"}):
        for place in ("listen", "http_listen"):
            with pytest.raises(AtomasError, match="ATOMAS_ALLOW_INSECURE"):
                require_protection(Settings(**{place: address, **lacking}))  # type: ignore[arg-type]
    require_protection(Settings(listen=address, **protected))  # type: ignore[arg-type]
    require_protection(Settings(listen=address, allow_insecure=True))
    with pytest.raises(AtomasError, match="ATOMAS_ALLOW_INSECURE"):
        require_private_keeper(Settings(structures_listen=address))
