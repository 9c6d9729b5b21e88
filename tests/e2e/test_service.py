"""The embedded service through its client, as a user meets it."""

import gzip
import json
import pathlib
import socket
import uuid

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from atomas import AtomasError, Client, InvalidArgumentError, NotFoundError, ReaderError
from atomas.v1 import search_service_pb2
from atomas.v1.search_service_pb2_grpc import SearchServiceStub
from tests.running import RunningServer, atomas, running_server

CAFFEINE = "RYYVLZVUVIJVGH-UHFFFAOYSA-N"
SPELLINGS = [
    "CN1C=NC2=C1C(=O)N(C)C(=O)N2C",
    "O=c1n(C)c(=O)n(C)c2ncn(C)c12",
    "InChI=1S/C8H10N4O2/c1-10-4-9-6-5(10)7(13)12(3)8(14)11(6)2/h4H,1-3H3",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_any_spelling_of_a_structure_finds_its_compound_first(client: Client, spelling: str) -> None:
    hits = client.search(structure=spelling, library="chebi", limit=3)
    assert hits[0].compound.inchikey == CAFFEINE
    assert hits[0].score == pytest.approx(1.0, abs=1e-3)


def test_a_texts_own_words_find_its_compound(client: Client) -> None:
    described = next(c for c in client.compounds("chebi") if c.descriptions and len(c.descriptions[0]) > 80)
    hits = client.search(described.descriptions[0], library="chebi", limit=10)
    assert described.inchikey in [hit.compound.inchikey for hit in hits]


def test_phrases_are_compared_with_fragments_unless_told_otherwise(client: Client) -> None:
    text = "a steroid ester with an 11-oxo group and a chlorine atom"
    hits = client.search(text, library="chebi", limit=20)
    fragments = {hit.compound.inchikey: leg for hit in hits for leg in hit.legs if leg.leg == "fragments"}
    assert len(fragments) == 20
    assert all(leg.score > 0 and 1 <= leg.rank <= 100 and leg.weight > 0 for leg in fragments.values())
    without = client.search(text, library="chebi", limit=20, weights={"fragments": 0})
    assert "fragments" not in {leg.leg for hit in without for leg in hit.legs}
    [alone] = client.search(text, library="chebi", limit=1, weights={"fragments": 1e6})
    assert [leg.rank for leg in alone.legs if leg.leg == "fragments"] == [1]
    [batched] = client.search_many([text], library="chebi", limit=20)
    assert batched.result is not None
    assert [hit.compound.inchikey for hit in batched.result.hits] == [hit.compound.inchikey for hit in hits]


def test_a_structure_finds_the_texts_about_it(client: Client) -> None:
    hits = client.search(structure=SPELLINGS[0], library="chebi", target="texts", limit=5)
    assert len(hits) == 5
    assert [leg.leg for hit in hits for leg in hit.legs] == ["texts"] * 5


def test_pages_together_are_the_whole_answer(client: Client) -> None:
    whole = client.search("a carboxylic acid", library="chebi", limit=60)
    paged = [hit for page in client.search_pages("a carboxylic acid", library="chebi", page_size=20) for hit in page.hits][:60]
    assert [hit.compound.inchikey for hit in paged] == [hit.compound.inchikey for hit in whole]


def test_fields_can_be_chosen_down_to_ids(client: Client) -> None:
    hit = client.search("caffeine", library="chebi", limit=1, ids_only=True)[0]
    assert hit.compound.resource_name.startswith("libraries/chebi/compounds/")
    assert hit.compound.smiles == ""
    only = client.search("caffeine", library="chebi", limit=1, fields=["smiles"])[0].compound
    assert only.smiles
    assert only.name == ""


def test_filters_hold_for_every_hit(client: Client) -> None:
    hits = client.search("acid", library="chebi", limit=50, filter="molecular_weight < 200 AND (charge = 0 OR charge = -1)")
    assert hits
    for hit in hits:
        assert hit.compound.descriptors is not None
        assert hit.compound.descriptors.molecular_weight < 200
        assert hit.compound.descriptors.charge in (0, -1)


def test_vectors_come_out_with_errors_of_single_items(client: Client) -> None:
    found = client.embed_structures(["CCO", "no structure", SPELLINGS[0]])
    assert [item.vector is not None for item in found] == [True, False, True]
    assert found[1].reason == "INVALID_SMILES"
    texts = client.embed_texts(["an alcohol", " "])
    assert texts[0].vector is not None
    assert texts[1].reason == "EMPTY_QUERY"


def test_importing_the_same_file_again_says_that_nothing_changed(client: Client, sample: pathlib.Path) -> None:
    report = client.import_compounds(sample, library="chebi")
    assert report.counts.duplicate == report.counts.received
    assert report.counts.created == report.counts.updated == 0


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"text": "   "}, "EMPTY_QUERY"),
        ({"text": "acid " * 20_000}, "TEXT_TOO_LONG"),
        ({"structure": "C1CC"}, "INVALID_SMILES"),
        ({"structure": "C" * 5_000}, "TOO_LARGE"),
        ({"text": "acid", "filter": "colour = 1"}, "UNKNOWN_FIELD"),
        ({"text": "acid", "filter": "charge ="}, "INVALID_FILTER"),
        ({"text": "acid", "fields": ["colour"]}, "UNKNOWN_FIELD"),
    ],
)
def test_a_bad_query_is_refused_with_its_reason(client: Client, query: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client.search(library="chebi", **query)  # type: ignore[arg-type]  # one case holds a list
    assert caught.value.reason == reason
    assert "Traceback" not in caught.value.message


def test_an_unknown_library_is_not_found(client: Client) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.search("acid", library="nowhere")
    assert caught.value.reason == "LIBRARY_NOT_FOUND"


def test_a_foreign_page_token_is_refused(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = SearchServiceStub(channel)
        first = stub.SearchCompounds(search_service_pb2.SearchCompoundsRequest(parent="libraries/chebi", text="acid", page_size=1))
        for token in (first.next_page_token[:-3] + "AAA", "nonsense"):
            again = search_service_pb2.SearchCompoundsRequest(parent="libraries/chebi", text="acid", page_token=token)
            with pytest.raises(grpc.RpcError, match="page token"):
                stub.SearchCompounds(again)
        other = search_service_pb2.SearchCompoundsRequest(parent="libraries/chebi", text="base", page_token=first.next_page_token)
        with pytest.raises(grpc.RpcError, match="another request"):
            stub.SearchCompounds(other)


def test_health_and_reflection_name_every_service(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {"atomas.v1.LibraryService", "atomas.v1.SearchService", "google.longrunning.Operations"} <= set(services)
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", *(name for name in services if name.startswith("atomas."))):
            assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING


def test_broken_rows_are_rejected_one_by_one_and_listed(client: Client, tmp_path: pathlib.Path) -> None:
    rows = [
        '{"id": "T:1", "smiles": "CCO"}',
        "{broken",
        '{"id": "T:2", "smiles": "C(C"}',
        '{"id": "T:3"}',
        '{"id": "T:4", "smiles": "CCN"}',
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(rows) + "\n")
    library = f"broken-{uuid.uuid4().hex[:8]}"
    report = client.import_compounds(path, library=library)
    assert (report.counts.created, report.counts.rejected) == (2, 3)
    assert [(r.position, r.reason) for r in client.rejections(report.operation)] == [(2, "UNREADABLE"), (3, "INVALID_SMILES"), (4, "EMPTY")]


def test_an_sdf_with_broken_records_keeps_the_good_ones(client: Client, tmp_path: pathlib.Path) -> None:
    good = "ethanol\n  test\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n" + "".join(
        f"    {x:.4f}    0.0000    0.0000 {e}   0  0  0  0  0  0  0  0  0  0  0  0\n" for x, e in ((0, "C"), (1, "C"), (2, "O"))
    )
    good += "  1  2  1  0\n  2  3  1  0\nM  END\n> <ID>\nT:1\n\n$$$$\n"
    broken = "broken\n  test\n\n  9  2  0  0  0  0  0  0  0  0999 V2000\nnonsense\nM  END\n$$$$\n"
    path = tmp_path / "records.sdf"
    path.write_text(good + broken + good.replace("T:1", "T:2").replace("O ", "N "))
    report = client.import_compounds(path, library=f"sdf-{uuid.uuid4().hex[:8]}")
    assert (report.counts.created, report.counts.rejected) == (2, 1)
    assert next(client.rejections(report.operation)).position == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("no_smiles.csv", b"name,mass\nethanol,46\n", "smiles"),
        ("binary.smi", bytes(range(256)) * 20, ""),
        ("empty.smi", b"", "empty"),
        ("unknown.xyzzy", b"\x00\x01\x02\x03" * 50, ""),
    ],
)
def test_a_file_that_is_no_library_is_refused_in_one_sentence(
    client: Client, tmp_path: pathlib.Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReaderError) as caught:
        client.import_compounds(path, library="refused")
    assert says.lower() in caught.value.message.lower()


def test_a_truncated_gzip_says_what_was_saved_and_saves_it(client: Client, tmp_path: pathlib.Path) -> None:
    lines = "".join(f'{{"id": "T:{i}", "smiles": "{"C" * (i % 40 + 1)}{"N" * (i // 40)}O"}}\n' for i in range(1600)).encode()
    whole = gzip.compress(lines)
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    library = f"cut-{uuid.uuid4().hex[:8]}"
    with pytest.raises(ReaderError):
        client.import_compounds(path, library=library)
    path.write_bytes(whole)
    report = client.import_compounds(path, library=library)
    assert report.counts.received == 1600
    assert client.get_library(library).compound_count == report.counts.created + report.counts.duplicate


def test_the_command_line_prints_one_json_document(server: RunningServer) -> None:
    run = atomas(server.address, "search", "caffeine", "--library", "chebi", "--limit", "3", "--json")
    assert run.returncode == 0, run.stderr
    hits = json.loads(run.stdout)["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert {"name", "smiles", "inchikey"} <= set(hits[0]["compound"])


def test_the_command_line_says_no_in_one_line(server: RunningServer) -> None:
    run = atomas(server.address, "search", "acid", "--library", "nowhere")
    assert run.returncode == 1
    assert len(run.stderr.strip().splitlines()) == 1
    assert "nowhere" in run.stderr
    assert atomas(server.address, "search", "--no-such-option").returncode == 2


def test_state_survives_a_restart_and_the_folder_has_one_owner(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    with running_server(folder) as first:
        with Client(first.address) as client:
            client.import_compounds(
                [{"smiles": "CCO", "name": "ethanol", "id": "T:1"}, {"smiles": "CCN", "name": "ethylamine"}], library="small"
            )
        with pytest.raises(AssertionError, match="Another process"):
            running_server(folder).__enter__()
    with running_server(folder) as second, Client(second.address) as client:
        assert client.get_library("small").compound_count == 2
        assert client.search(structure="OCC", library="small")[0].compound.name == "ethanol"


def test_a_port_that_is_taken_is_named(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AssertionError, match=rf"Cannot listen on {address}"):
            running_server(tmp_path / "data", listen=address).__enter__()


def test_a_disk_that_is_full_refuses_imports_and_still_answers(tmp_path: pathlib.Path) -> None:
    with running_server(tmp_path / "data") as roomy, Client(roomy.address) as client:
        client.import_compounds([{"smiles": "CCO", "name": "ethanol"}], library="small")
    with running_server(tmp_path / "data", min_free_disk_bytes=str(2**60)) as full, Client(full.address) as client:
        with pytest.raises(AtomasError) as caught:
            client.import_compounds([{"smiles": "CCN"}], library="small")
        assert caught.value.reason == "DISK_FULL"
        assert client.search(structure="CCO", library="small")[0].compound.name == "ethanol"


@pytest.mark.parametrize(("setting", "value"), [("log_level", "loud"), ("request_threads", "0"), ("min_free_disk_bytes", "much")])
def test_a_setting_that_makes_no_sense_is_named(tmp_path: pathlib.Path, setting: str, value: str) -> None:
    with pytest.raises(AssertionError, match="ATOMAS_" + setting.upper()):
        running_server(tmp_path / "data", **{setting: value}).__enter__()
