"""API keys as people use them, tokens of an identity provider, and limits of a caller."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from atomas import AsyncClient, Client, PermissionDeniedError, UnauthenticatedError
from server.adapters.json_web_tokens import JsonWebTokens
from server.adapters.key_sets import KeySetFile
from server.adapters.password_hashes import PasswordHashes
from server.domain.access import Caller, Level, Scope
from tests.running import atomas
from tests.security.served import Served, served
from tests.unit.conftest import World


async def test_a_key_works_from_its_creation_to_its_revocation(guarded: Served) -> None:
    with Client(guarded.address, api_key=guarded.key("-:admin")) as admin:
        made = admin.create_api_key({"held": "read"}, name="reader")
        assert made.secret.startswith(f"atk_{made.key.prefix}_")
        assert made.secret not in repr(made)
        with Client(guarded.address, api_key=made.secret) as reader:
            assert [library.id for library in reader.libraries()] == ["held"]
            assert len(list(reader.export("held"))) == 1
            with pytest.raises(PermissionDeniedError):
                reader.import_compounds(["CC"], library="held")
            async with AsyncClient(guarded.address, api_key=made.secret) as same:
                assert (await same.get_library("held")).id == "held"
                assert len([compound async for compound in same.export("held")]) == 1
            assert admin.revoke_api_key(made.key.prefix).revoke_time is not None
            with pytest.raises(UnauthenticatedError):
                reader.get_library("held")
        assert {key.prefix: key.revoke_time is not None for key in admin.api_keys()}[made.key.prefix]


def test_the_command_line_makes_lists_and_revokes_keys(guarded: Served) -> None:
    secret = guarded.key("-:admin")
    made = atomas(guarded.address, "keys", "create", "--scope", "held:read", "--name", "reader", ATOMAS_API_KEY=secret)
    assert made.returncode == 0, made.stderr
    prefix = made.stdout.strip().split("_")[1]
    assert atomas(guarded.address, "keys", "revoke", prefix, ATOMAS_API_KEY=secret).returncode == 0
    listed = atomas(guarded.address, "keys", "list", ATOMAS_API_KEY=secret)
    assert f"{prefix}  revoked  held:read  reader" in listed.stdout
    refused = atomas(guarded.address, "libraries")
    assert (refused.returncode, "authorization" in refused.stderr) == (1, True)


def test_secrets_are_hashed_and_their_verification_is_remembered() -> None:
    hashes = PasswordHashes()
    hashed = hashes.hash("secret")
    assert hashed.startswith("$argon2id$")
    assert "secret" not in hashed
    assert hashes.hash("secret") != hashed
    assert hashes.verify(hashed, "secret")
    started = time.perf_counter()
    assert all(hashes.verify(hashed, "secret") for _ in range(100))
    assert time.perf_counter() - started < 0.5
    assert not hashes.verify(hashed, "other")
    assert not hashes.verify("no hash", "secret")


def key_set(folder: Path, *keys: tuple[str, Any]) -> Path:
    file = folder / "jwks.json"
    public = [{**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": kid, "alg": "ES256"} for kid, key in keys]
    file.write_text(json.dumps({"keys": public}))
    return file


def test_tokens_are_taken_when_they_are_signed_for_this_service(tmp_path: Path, world: World) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    tokens = JsonWebTokens(KeySetFile(key_set(tmp_path, ("k1", key))), "atomas", "https://id.example.org", "scope")

    def token(signer: Any = key, kid: str = "k1", **claims: Any) -> str:
        said = {
            "sub": "ada",
            "aud": "atomas",
            "iss": "https://id.example.org",
            "exp": time.time() + 300,
            "scope": "openid atomas:held:write",
        }
        return jwt.encode({**said, **claims}, signer, algorithm="ES256", headers={"kid": kid})

    assert tokens.caller(token()) == Caller("token/ada", (Scope("held", Level.WRITE),))
    unsigned = jwt.encode({"sub": "ada", "aud": "atomas", "exp": time.time() + 300}, "", algorithm="none", headers={"kid": "k1"})
    for bad in (
        token(signer=other),
        token(kid="k2"),
        token(aud="other"),
        token(iss="https://elsewhere.example.org"),
        token(exp=time.time() - 300),
        token(scope="atomas:held:everything"),
        unsigned,
        "no.token.atall",
        "x" * 20_000,
    ):
        assert tokens.caller(bad) is None
    # Keys are rotated by writing the file.
    key_set(tmp_path, ("k2", other), ("k1", key))
    assert tokens.caller(token(signer=other, kid="k2")) is not None
    with served(world.ports, tokens=tokens) as service, Client(service.address, api_key=token(scope="atomas:-:read")) as client:
        assert list(client.libraries()) == []
