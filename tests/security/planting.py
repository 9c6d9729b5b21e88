"""Sends confidential words through every method of the contract, over gRPC and HTTP: what works, what is refused, what is broken."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from atomas import AtomasError, Client
from server.rest.bindings import bindings
from tests.confidential import BROKEN, METADATA, NAME, SMARTS, SMILES, TEXT
from tests.rest.conftest import Http
from tests.security.served import call
from tests.security.test_access import reflected

LIBRARY = "confidential"


def plant(address: str, url: str) -> None:
    """All of it, into a service that asks nobody who they are."""
    with Client(address, timeout_seconds=60) as client:
        use(client)
    with grpc.insecure_channel(address) as channel:
        fill_every_field(channel)
    over_http(Http(url))


def use(client: Client) -> None:
    """What people do, and what goes wrong when they do."""
    rows: list[dict[str, object]] = [
        {"smiles": SMILES, "name": NAME, "text": f"A {TEXT} alcohol.", "synonyms": [f"{NAME} B"], "metadata": {"kind": METADATA}},
        {"smiles": BROKEN, "name": NAME},
        {"smiles": "C" * 6000 + NAME},
    ]
    report = client.import_compounds(rows, library=LIBRARY, source=f"{NAME}.csv")
    assert (report.counts.created, report.counts.rejected) == (1, 2)
    assert [rejection.reason for rejection in client.rejections(report.operation)]
    client.update_library(LIBRARY, description=TEXT)
    client.create_api_key({LIBRARY: "read"}, name=NAME)
    assert client.search(NAME, library=LIBRARY).hits[0].compound.name == NAME
    client.search(text=f"{TEXT} alcohol", library=LIBRARY, filter=f'metadata.kind = "{METADATA}"')
    client.search(smiles=SMILES, library=LIBRARY)
    client.search(filter=f'smarts("{SMARTS}")', library=LIBRARY)
    client.search_many([TEXT, NAME, BROKEN], library=LIBRARY)
    client.explain(TEXT, structure=SMILES, draw=True)
    client.embed_texts([TEXT, ""])
    client.embed_structures([SMILES, BROKEN])
    assert [compound.name for compound in client.export(LIBRARY)] == [NAME]
    found: list[Callable[[], Any]] = [
        lambda: client.generate(TEXT, library=LIBRARY, count=1, max_attempts=4, timeout_seconds=60),
        lambda: client.describe(SMILES, library=LIBRARY, timeout_seconds=60),
        lambda: client.describe(BROKEN, library=LIBRARY),
        lambda: client.search(smiles=BROKEN, library=LIBRARY),
        lambda: client.search(TEXT, library=LIBRARY, filter=f"{NAME} = {TEXT} ("),
        lambda: client.search(filter=f'smarts("{BROKEN}")', library=LIBRARY),
        lambda: client.get_compound(f"{LIBRARY}/{NAME}"),
        lambda: client.get_library(NAME + "?"),
        lambda: client.create_library(f"{NAME}?"),
        lambda: client.operation(NAME),
        lambda: client.wait(NAME, timeout_seconds=1),
        lambda: client.cancel(NAME),
        lambda: client.reindex(f"/{NAME}"),
        lambda: client.activate_model(NAME),
        lambda: client.compare_models(NAME, [TEXT]),
        lambda: client.compare_models("-", [TEXT]),
        lambda: client.revoke_api_key(NAME),
        lambda: next(client.search_pages(TEXT, page_token=NAME)),
    ]
    for ask in found:
        with suppress(AtomasError):
            ask()


def fill_every_field(channel: grpc.Channel) -> None:
    """Every method that the service has, also those to come, with the words in every text of its request."""
    for method in reflected(channel).values():
        # None that could be the name of a library, which the audit log tells.
        for word in (f"{TEXT}?", SMILES, f"libraries/{LIBRARY}/compounds/{NAME}", f"operations/{NAME}"):
            message = message_factory.GetMessageClass(method.input_type)()
            _fill(message, method.input_type, word, depth=3)
            with suppress(grpc.RpcError, StopIteration):
                call(channel, method, message, "", lambda answer: answer)


def over_http(http: Http) -> None:
    """The same over HTTP, where paths, queries and bodies hold words."""
    assert http("POST", f"/v1/libraries/{LIBRARY}/compounds:search", {"text": TEXT}).status == 200
    assert http("POST", f"/v1/libraries/{LIBRARY}/compounds:search", {"structure": BROKEN}).status == 400
    assert http("POST", f"/v1/libraries/{LIBRARY}/compounds:search?{NAME}={TEXT}", {}).status == 400
    assert http("POST", f"/v1/libraries/{LIBRARY}/compounds:import?source={NAME}.smi", f"{SMILES} {NAME}\n".encode()).status == 200
    http("POST", f"/v1/libraries/{LIBRARY}/compounds:import?source={NAME}.sdf", b"\x00\xff" + TEXT.encode())
    assert http("GET", f"/v1/libraries/{LIBRARY}/compounds:export").status == 200
    http("GET", f"/v1/operations/{NAME}:watch")
    http("GET", f"/{NAME}?{TEXT}", headers={"X-Request-ID": f"{NAME} {TEXT}", "User-Agent": NAME, "Traceparent": TEXT})
    for binding in bindings():
        path = binding.template.path
        for variable in binding.template.variables:
            for name in variable.ids:
                # Not the name of a library, which the audit log tells.
                path = path.replace("{" + name + "}", f"{NAME}%3F")
        http(binding.verb, path, {"text": TEXT, NAME: SMILES} if binding.body else None)
        http(binding.verb, path, f"{{{NAME}".encode() if binding.body else None, {"Content-Type": "application/json"})


def _fill(message: Any, descriptor: Descriptor, word: str, depth: int) -> None:
    for field in descriptor.fields:
        kind = field.message_type
        if kind is not None:
            if depth and not kind.GetOptions().map_entry and not kind.full_name.startswith("google.protobuf."):
                inner = getattr(message, field.name)
                _fill(inner.add() if field.is_repeated else inner, kind, word, depth - 1)
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                getattr(message, field.name).append(word)
            else:
                setattr(message, field.name, word)
