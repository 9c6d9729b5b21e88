"""Files over HTTP and over the command line: imports with progress, exports that give the same compounds again."""

import gzip
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from atomas import Client, read_rows
from tests.rest.conftest import Http
from tests.running import RunningServer, atomas

JSONL = b'{"id": "A:1", "name": "ethanol", "smiles": "CCO"}\n{"id": "A:2", "smiles": "C1CC"}\n{"id": "A:3", "smiles": "CC", "year": 1900}\n'


def finished(http: Http, name: str) -> Any:
    deadline = time.monotonic() + 60
    while not (operation := http("GET", f"/v1/{name}").json())["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return operation


def told(compound: Any) -> tuple[object, ...]:
    """What an import says of a compound."""
    return (
        compound.inchikey,
        compound.name,
        compound.smiles,
        set(compound.synonyms),
        compound.source_ids,
        compound.descriptions,
        compound.metadata,
        compound.descriptors,
    )


@pytest.mark.parametrize(
    ("body", "query", "kind"),
    [
        (JSONL, "source=x.jsonl", ""),
        (gzip.compress(JSONL), "source=x.jsonl.gz", ""),
        (JSONL, "format=jsonl", ""),
        (JSONL, "", "application/x-ndjson"),
        (b"smiles,id,name,year\nCCO,A:1,ethanol,\nC1CC,A:2,,\nCC,A:3,,1900\n", "", "text/csv"),
    ],
    ids=["jsonl", "gzip", "format", "content-type", "csv"],
)
def test_a_file_is_imported_and_every_row_has_its_verdict(http: Http, body: bytes, query: str, kind: str) -> None:
    library = f"up-{uuid.uuid4().hex[:8]}"
    answer = http(
        "POST", f"/v1/libraries/{library}/compounds:import?allowMissing=true&{query}", body, {"Content-Type": kind} if kind else {}
    )
    assert answer.status == 200, answer.body
    operation = finished(http, answer.json()["name"])
    counts = operation["metadata"]["counts"]
    assert {name: counts[name] for name in ("received", "created", "rejected")} == {"received": "3", "created": "2", "rejected": "1"}
    (rejection,) = http("GET", f"/v1/{operation['name']}/rejections").json()["rejections"]
    assert (rejection["position"], rejection["reason"]) == ("3" if kind == "text/csv" else "2", "INVALID_SMILES")


def test_the_same_request_id_is_the_same_import(http: Http) -> None:
    library, request_id = f"once-{uuid.uuid4().hex[:8]}", uuid.uuid4()
    path = f"/v1/libraries/{library}/compounds:import?allowMissing=true&source=x.jsonl&requestId={request_id}"
    first, second = http("POST", path, JSONL).json(), http("POST", path, JSONL).json()
    assert first["name"] == second["name"]
    assert finished(http, first["name"])["metadata"]["counts"]["received"] == "3"


def test_progress_is_told_until_the_import_is_done(http: Http) -> None:
    rows = "".join(f'{{"smiles": "{"C" * n}O"}}\n' for n in range(1, 120)).encode()
    name = http("POST", "/v1/libraries/watched/compounds:import?allowMissing=true&source=x.jsonl", rows).json()["name"]
    stream = http("GET", f"/v1/{name}:watch")
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(event.removeprefix("data: ")) for event in stream.body.decode().strip().split("\n\n")]
    assert [event["done"] for event in events] == [*[False] * (len(events) - 1), True]
    assert events[-1]["metadata"]["counts"]["created"] == "119"


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/v1/libraries/nowhere/compounds:import?source=x.smi", b"CCO\n", 404, "LIBRARY_NOT_FOUND"),
        ("/v1/libraries/chebi/compounds:import?source=x.smi", b"", 400, "UNREADABLE"),
        ("/v1/libraries/chebi/compounds:import?source=x.sdf.gz", b"CCO\n", 400, "UNREADABLE"),
        ("/v1/libraries/chebi/compounds:import?source=x.csv", b"colour,size\nred,5\n", 400, "UNREADABLE"),
        ("/v1/libraries/chebi/compounds:import?format=word", b"CCO\n", 400, "INVALID_ARGUMENT"),
        ("/v1/libraries/chebi/compounds:import?source=x.smi&requestId=1", b"CCO\n", 400, "INVALID_ARGUMENT"),
        ("/v1/libraries/chebi/compounds:import?colour=red", b"CCO\n", 400, "INVALID_ARGUMENT"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_in_a_sentence(http: Http, path: str, body: bytes, status: int, reason: str) -> None:
    answer = http("POST", path, body)
    assert (answer.status, answer.reason) == (status, reason)


def test_a_form_is_refused_with_what_to_do_instead(http: Http) -> None:
    answer = http("POST", "/v1/libraries/chebi/compounds:import", b"--x", {"Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status, answer.reason) == (415, "WRONG_CONTENT_TYPE")


def test_rows_before_the_place_where_a_file_is_damaged_stay_and_the_refusal_says_so(http: Http) -> None:
    library = f"cut-{uuid.uuid4().hex[:8]}"
    packed = gzip.compress("".join(f'{{"smiles": "{"C" * (n % 90 + 1)}O", "id": "{uuid.uuid4()}"}}\n' for n in range(3_000)).encode())
    answer = http("POST", f"/v1/libraries/{library}/compounds:import?allowMissing=true&source=x.jsonl.gz", packed[: len(packed) * 2 // 3])
    assert (answer.status, answer.reason) == (400, "UNREADABLE")
    (detail,) = (detail for detail in answer.json()["details"] if "reason" in detail)
    operation = finished(http, detail["metadata"]["operation"])
    assert 0 < int(operation["metadata"]["counts"]["received"]) < 3_000


@pytest.mark.parametrize("format", ["jsonl", "csv", "sdf", "parquet"])
def test_an_export_over_http_imported_again_gives_the_same_compounds(http: Http, client: Client, tmp_path: Path, format: str) -> None:
    exported = http("GET", f"/v1/libraries/chebi/compounds:export?format={format}")
    assert exported.status == 200
    assert exported.headers["content-disposition"] == f'attachment; filename="chebi.{format}"'
    path = tmp_path / f"x.{format}"
    path.write_bytes(exported.body)
    report = client.import_compounds(path, library=f"again-{format}")
    assert report.counts.rejected == 0
    again = {compound.inchikey: told(compound) for compound in client.compounds(f"again-{format}")}
    assert again == {compound.inchikey: told(compound) for compound in client.compounds("chebi")}


def test_an_export_is_chosen_by_a_filter(http: Http, client: Client) -> None:
    exported = http("GET", "/v1/libraries/chebi/compounds:export?format=smiles&filter=molecular_weight%20%3C%20100")
    light = [compound for compound in client.compounds("chebi") if compound.descriptors and compound.descriptors.molecular_weight < 100]
    assert light
    rows = exported.body.decode().splitlines()
    assert rows[0] == "smiles\tid\tname"
    assert {row.split("\t")[0] for row in rows[1:]} == {compound.smiles for compound in light}


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1/libraries/nowhere/compounds:export", 404, "LIBRARY_NOT_FOUND"),
        ("/v1/libraries/chebi/compounds:export?format=docx", 400, "INVALID_ARGUMENT"),
        ("/v1/libraries/chebi/compounds:export?filter=colour=1", 400, "UNKNOWN_FIELD"),
        ("/v1/libraries/chebi/compounds:export?fields=x", 400, "INVALID_ARGUMENT"),
    ],
)
def test_an_export_that_makes_no_sense_is_refused_before_its_first_byte(http: Http, path: str, status: int, reason: str) -> None:
    answer = http("GET", path)
    assert (answer.status, answer.reason) == (status, reason)


def test_the_command_line_exports_a_library_and_the_hits_of_a_search(server: RunningServer, client: Client, tmp_path: Path) -> None:
    done = atomas(server.address, "export", "chebi", str(tmp_path / "all.sdf.gz"))
    assert done.returncode == 0, done.stderr
    everything = {compound.inchikey for compound in client.compounds("chebi")}
    assert done.stdout == f"{len(everything)} compounds of chebi in {tmp_path / 'all.sdf.gz'}.\n"
    client.import_compounds(tmp_path / "all.sdf.gz", library="from-sdf")
    assert {compound.inchikey for compound in client.compounds("from-sdf")} == everything
    found = atomas(server.address, "search", "purine alkaloid", "--library", "chebi", "--limit", "3", "--out", str(tmp_path / "hits.jsonl"))
    assert found.returncode == 0, found.stderr
    hits = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    assert [hit["atomas"]["rank"] for hit in hits] == [1, 2, 3]
    found = atomas(server.address, "search", "purine alkaloid", "--library", "chebi", "--limit", "3", "--out", str(tmp_path / "hits.sdf"))
    assert found.returncode == 0, found.stderr
    assert [row.id for row in read_rows(tmp_path / "hits.sdf")] == [hit["id"] for hit in hits]
    refused = atomas(server.address, "export", "chebi", str(tmp_path / "x.docx"))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_an_export_goes_on_after_any_message_it_broke_at(client: Client, server: RunningServer) -> None:
    import grpc

    from atomas.v1.library_service_pb2 import ExportCompoundsRequest
    from atomas.v1.library_service_pb2_grpc import LibraryServiceStub

    with grpc.insecure_channel(server.address) as channel:
        export = LibraryServiceStub(channel).ExportCompounds
        whole = [compound.name for message in export(ExportCompoundsRequest(parent="libraries/chebi")) for compound in message.compounds]
        first = next(iter(export(ExportCompoundsRequest(parent="libraries/chebi"))))
        assert 0 < first.examined_count < first.compound_count
        rest = export(ExportCompoundsRequest(parent="libraries/chebi", resume_token=first.resume_token))
        assert [c.name for c in first.compounds] + [c.name for message in rest for c in message.compounds] == whole
        with pytest.raises(grpc.RpcError) as refusal:
            list(export(ExportCompoundsRequest(parent="libraries/chebi", filter="charge = 0", resume_token=first.resume_token)))
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert whole == [compound.resource_name for compound in client.export("chebi")]
