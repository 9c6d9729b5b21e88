"""The audit log: a record of every call, over gRPC and HTTP, from which nobody without the key learns what was asked."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from atomas import AsyncClient, AtomasError, Client
from server.domain import errors
from server.domain.errors import Reason
from server.domain.libraries import Library
from server.observability.audit import keyed_hash, read_key
from server.rest.bindings import Binding, bindings
from server.rpc.access_rules import RULES
from server.rpc.app import SERVICES
from server.rpc.auditing import open_auditor
from server.settings import Settings
from server.usecases.manage_libraries import create_library
from tests.security.served import Served, call, served
from tests.security.test_access import REQUESTS, UNKNOWN_OPERATION, reflected
from tests.unit.conftest import World

TEXT = "zanzibarite alcohol"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "audit.jsonl"


@pytest.fixture
def audited(world: World, log: Path, tmp_path: Path) -> Iterator[Served]:
    """A guarded service with the library `held` that keeps an audit log."""
    log.parent.mkdir()
    create_library(Library("held"), world.ports)
    with served(world.ports, audit_log=str(log), data_dir=tmp_path / "data") as service:
        yield service


def records(log: Path, count: int) -> list[dict[str, Any]]:
    """All of them, once there are so many: streams end a moment after their callers have gone."""
    deadline = time.monotonic() + 20
    while len(lines := log.read_text().splitlines()) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(lines) == count
    return [json.loads(line) for line in lines]


def outcome(channel: grpc.Channel, method: Any, message: Any, secret: str) -> str:
    """Name of the status code that the caller sees."""
    try:
        call(channel, method, message, secret, lambda answer: answer)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return str(error.code().name)
    return "OK"


def test_every_method_of_the_contract_leaves_a_record_of_who_asked_and_how_it_ended(audited: Served, log: Path) -> None:
    secret = audited.key("-:admin")
    with grpc.insecure_channel(audited.address) as channel:
        methods = reflected(channel)
        assert {path.split("/")[1] for path in methods} == set(SERVICES)
        # Deletions last: the others speak of what is there.
        ordered = sorted(methods, key=lambda path: ("Delete" in path, path))
        seen = []
        for path in ordered:
            message = REQUESTS[methods[path].name]("held", UNKNOWN_OPERATION)
            seen.append((methods[path], outcome(channel, methods[path], message, secret)))
            assert outcome(channel, methods[path], message, "") == "UNAUTHENTICATED"
    found = records(log, 2 * len(ordered))
    for method, code in seen:
        known, unknown = sorted((each for each in found if each["method"] == method.name), key=lambda each: str(each["caller"]))
        streams = method.client_streaming or method.server_streaming
        assert known["code"] in ({code, "CANCELLED"} if streams else {code})
        assert known["caller"].startswith("key/")
        assert known["caller"].removeprefix("key/") in secret
        assert (unknown["caller"], unknown["code"], unknown["reason"]) == ("unknown", "UNAUTHENTICATED", "UNAUTHENTICATED")
        for each in (known, unknown):
            assert each["over"] == "grpc"
            assert len(each["request_id"]) == 32
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", each["time"])
            rule = RULES[f"/{method.containing_service.full_name}/{method.name}"]
            named = list(dict.fromkeys(rule.libraries(REQUESTS[method.name]("held", UNKNOWN_OPERATION))))
            # Of a stranger's stream nobody reads the first message.
            unread = method.client_streaming and each is unknown
            assert each.get("libraries", []) == ([] if unread else named)


def path_of(binding: Binding) -> str:
    """A path that the binding matches, about the library `held`."""
    ids = {
        "library": "held",
        "compound": "LFQSCWFLJHTTHZ-UHFFFAOYSA-N",
        "operation": UNKNOWN_OPERATION,
        "apiKey": "abcdefghij",
        "model": "x",
    }
    return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], binding.template.path)


def test_every_path_over_http_leaves_a_record_too(audited: Served, log: Path) -> None:
    secret = audited.key("-:admin")
    asked = [binding for binding in bindings() if audited.app.methods.handler(binding.handler_path) is not None]
    for binding in asked:
        body = b"{}" if binding.body else None
        assert audited.http(binding.verb, path_of(binding), "", body).status == 401
        audited.http(binding.verb, path_of(binding), secret, body)
    extra = [("POST", "/v1/libraries/held/compounds:import"), ("GET", "/v1/libraries/held/compounds:export")]
    for verb, path in extra:
        assert audited.http(verb, path, "", b"CCO\n").status == 401
    found = records(log, 2 * len(asked) + len(extra))
    refused = [each["method"] for each in found if each["caller"] == "unknown"]
    assert sorted(refused) == sorted([*(binding.method.name for binding in asked), "ImportCompounds", "ExportCompounds"])
    assert sorted(each["method"] for each in found if each["caller"] != "unknown") == sorted(binding.method.name for binding in asked)
    assert {each["over"] for each in found} == {"http"}


def test_a_caller_who_may_not_is_named(audited: Served, log: Path) -> None:
    secret = audited.key("other:read")
    with Client(audited.address, api_key=secret) as client, pytest.raises(AtomasError, match=r".+"):
        client.search(text=TEXT, library="held")
    assert audited.http("GET", "/v1/libraries/held", secret).status == 403
    for each in records(log, 2):
        assert each["code"] == "PERMISSION_DENIED"
        assert each["caller"].removeprefix("key/") in secret
        assert each["libraries"] == ["held"]


def test_a_query_has_the_same_hash_over_both_and_no_dictionary_finds_it_without_the_key(audited: Served, log: Path, tmp_path: Path) -> None:
    secret = audited.key("-:admin")
    with Client(audited.address, api_key=secret) as client:
        client.search(text=TEXT, library="held")
        client.search(text="something else", library="held", filter="rings > 1")
        client.embed_texts([TEXT, "another"])
    body = json.dumps({"text": TEXT, "pageSize": 5}).encode()
    assert audited.http("POST", "/v1/libraries/held/compounds:search", secret, body).status == 200
    key = read_key((tmp_path / "data" / "audit.key").read_text())
    over_grpc, other, embedded, over_http = (each["query"] for each in records(log, 4))
    assert over_grpc == {"text": keyed_hash(key, TEXT)} == over_http
    assert set(other) == {"text", "filter"}
    assert embedded == {"texts": keyed_hash(key, json.dumps([TEXT, "another"]))}
    whole = log.read_text()
    guesses = [hashlib.new(name, TEXT.encode()).hexdigest() for name in ("md5", "sha1", "sha256", "sha512")]
    assert not any(guess in whole for guess in (TEXT, "zanzibarite", "rings", "pageSize", *guesses))


async def test_an_import_that_ended_well_says_so(audited: Served, log: Path) -> None:
    secret = audited.key("-:admin")
    with Client(audited.address, api_key=secret) as client:
        client.import_compounds(["CCO"], library="held", wait=False)
    async with AsyncClient(audited.address, api_key=secret) as waiting:
        await waiting.import_compounds(["CCN"], library="held", wait=False)
    imports = [each for each in records(log, 4) if each["method"] == "ImportCompounds"]
    assert [(each["code"], each["libraries"]) for each in imports] == [("OK", ["held"])] * 2


def test_while_records_cannot_be_written_no_call_begins_and_none_is_lost(audited: Served, log: Path) -> None:
    with Client(audited.address, api_key=audited.key("-:admin")) as client:
        client.get_library("held")
        shutil.rmtree(log.parent)
        # Under way when the disk went: it ends as it would have.
        client.get_library("held")
        with pytest.raises(AtomasError) as caught:
            client.create_library("new")
        assert caught.value.reason == Reason.AUDIT_UNAVAILABLE
        log.parent.mkdir()
        assert {library.resource_name for library in client.libraries()} == {"libraries/held"}
    found = [(each["method"], each["code"]) for each in records(log, 3)]
    assert found == [("GetLibrary", "OK"), ("CreateLibrary", "UNAVAILABLE"), ("ListLibraries", "OK")]


def test_the_service_goes_on_without_records_where_it_is_told_to(world: World, log: Path, tmp_path: Path) -> None:
    log.parent.mkdir()
    with served(world.ports, audit_log=str(log), data_dir=tmp_path / "data", audit_failure="continue", auth_required=False) as service:
        shutil.rmtree(log.parent)
        with Client(service.address) as client:
            client.create_library("one")
            client.create_library("two")
        log.parent.mkdir()
        with Client(service.address) as client:
            client.get_library("two")
    found = records(log, 3)
    assert [each["method"] for each in found] == ["CreateLibrary", "CreateLibrary", "GetLibrary"]
    assert {each["caller"] for each in found} == {"anyone"}


def test_without_the_setting_there_is_no_log_and_no_key(world: World, tmp_path: Path) -> None:
    with served(world.ports, data_dir=tmp_path / "data", auth_required=False) as service, Client(service.address) as client:
        assert list(client.libraries()) == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"audit_log": "/nowhere/audit.jsonl"}, "/nowhere/audit.jsonl"),
        ({"audit_log": "stderr", "audit_key": "short"}, "ATOMAS_AUDIT_KEY"),
        ({"audit_log": "stderr", "broker_url": "redis://127.0.0.1:1/0"}, "ATOMAS_AUDIT_KEY"),
    ],
)
def test_a_log_that_cannot_be_kept_stops_the_start(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(errors.AtomasError, match=told) as caught:
        open_auditor(Settings(data_dir=tmp_path, **settings))
    assert caught.value.reason is Reason.INVALID_ARGUMENT
