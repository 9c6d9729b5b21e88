"""Structures through the API: filters, similarity, spellings, drawings; the property that any spelling of a molecule gives the same hits."""

import random
import uuid
from collections.abc import Iterator

import grpc
import pytest
from rdkit import Chem

from atomas import Client, InvalidArgumentError
from atomas.v1 import search_service_pb2 as search
from atomas.v1 import structure_service_pb2 as structure
from atomas.v1.search_service_pb2_grpc import SearchServiceStub
from atomas.v1.structure_service_pb2_grpc import StructureServiceStub
from encoder.patterns import read_pattern
from tests.running import RunningServer, running_server

MOLECULES = 8
SPELLINGS = 2


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


def every_hit(channel: grpc.Channel, **asked: object) -> list[search.SearchHit]:
    """All pages of a search in the shared library."""
    stub, token = SearchServiceStub(channel), ""
    hits: list[search.SearchHit] = []
    while True:
        request = search.SearchCompoundsRequest(parent="libraries/chebi", page_size=7, page_token=token, **asked)  # type: ignore[arg-type] # fields by name
        answer = stub.SearchCompounds(request)
        hits.extend(answer.hits)
        token = answer.next_page_token
        if not token:
            return hits


@pytest.mark.parametrize("pattern", ["c1ccccc1", "smarts:[CX3](=O)[OX2H1]", "[#7;R]", "C1CCC2C(C1)CCC3C2CCC4C3CCC4", "[Pt]", "P"])
def test_a_substructure_finds_every_compound_that_has_it_over_all_pages(client: Client, channel: grpc.Channel, pattern: str) -> None:
    query = read_pattern(pattern).query
    right = {c.inchikey for c in client.compounds("chebi") if Chem.MolFromSmiles(c.smiles).HasSubstructMatch(query)}
    hits = every_hit(channel, filter=f'substructure("{pattern}")')
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert len(hits) == len(right)
    assert {hit.compound.inchikey for hit in hits} == right
    for hit in hits:
        molecule = Chem.MolFromSmiles(hit.compound.smiles)
        assert set(hit.matched_atoms) == {atom for match in molecule.GetSubstructMatches(query) for atom in match}


def test_ranked_hits_keep_the_substructure_too(channel: grpc.Channel) -> None:
    stub = SearchServiceStub(channel)
    request = search.SearchCompoundsRequest(
        parent="libraries/chebi", text="an acid", filter='substructure("C(=O)O") AND NOT substructure("[#7]")'
    )
    hits = stub.SearchCompounds(request).hits
    assert hits
    for hit in hits:
        molecule = Chem.MolFromSmiles(hit.compound.smiles)
        assert molecule.HasSubstructMatch(read_pattern("C(=O)O").query)
        assert not molecule.HasSubstructMatch(read_pattern("[#7]").query)


def test_fingerprints_are_a_target_and_a_leg(channel: grpc.Channel) -> None:
    caffeine = "Cn1c(=O)c2c(ncn2C)n(C)c1=O"
    alone = every_hit(channel, structure=caffeine, target=search.SearchCompoundsRequest.FINGERPRINTS, filter="rings > 0")
    assert alone[0].score == pytest.approx(1.0)
    assert [leg.leg for leg in alone[0].legs] == ["fingerprints"]
    assert [hit.score for hit in alone] == sorted((hit.score for hit in alone), reverse=True)
    fused = SearchServiceStub(channel).SearchCompounds(search.SearchCompoundsRequest(parent="libraries/chebi", structure=caffeine)).hits
    assert {leg.leg for leg in fused[0].legs} == {"molecules", "fingerprints"}


def spellings(smiles: str, chooser: random.Random) -> list[str]:
    """The same molecule as others would write it."""
    molecule = Chem.MolFromSmiles(smiles)
    written = [Chem.MolToSmiles(molecule, doRandom=True) for _ in range(SPELLINGS)]
    kekulised = Chem.Mol(molecule)
    Chem.Kekulize(kekulised, clearAromaticFlags=True)
    written.append(Chem.MolToSmiles(kekulised, kekuleSmiles=True))
    written.append(Chem.MolToSmiles(Chem.AddHs(molecule)))
    written.append(Chem.MolToInchi(molecule))
    chooser.shuffle(written)
    return written


def test_any_spelling_of_a_molecule_gives_the_same_hits(client: Client, channel: grpc.Channel) -> None:
    """InChI leaves open where mobile hydrogens and charges sit, so only what it gives back unchanged counts as the same molecule."""
    chooser = random.Random(20_260_718)
    stub, door = SearchServiceStub(channel), StructureServiceStub(channel)
    compounds = chooser.sample(list(client.compounds("chebi")), MOLECULES)

    def answers(text: str) -> list[list[tuple[str, float]]]:
        quoted = text.replace("\\", "\\\\").replace("\n", "\\n")
        requests = [
            search.SearchCompoundsRequest(parent="libraries/chebi", structure=text, page_size=8),
            search.SearchCompoundsRequest(parent="libraries/chebi", query=text, page_size=8),
            search.SearchCompoundsRequest(parent="libraries/chebi", structure=text, target=search.SearchCompoundsRequest.FINGERPRINTS),
        ]
        if "\n" not in text:
            requests += [
                search.SearchCompoundsRequest(parent="libraries/chebi", filter=f'{ask}("{quoted}"{rest})', page_size=50)
                for ask, rest in (("superstructure", ""), ("same_skeleton", ""), ("similar", ", 0.4"), ("substructure", ""))
            ]
        return [[(hit.compound.name, round(hit.score, 5)) for hit in stub.SearchCompounds(request).hits] for request in requests]

    compared = 0
    for compound in compounds:
        right = answers(compound.smiles)
        standard = door.StandardiseStructure(structure.StandardiseStructureRequest(structure=compound.smiles))
        assert (standard.smiles, standard.inchikey) == (compound.smiles, compound.inchikey)
        for text in [*spellings(compound.smiles, chooser), standard.molblock]:
            again = door.StandardiseStructure(structure.StandardiseStructureRequest(structure=text)) if text else standard
            if not text or again.smiles != compound.smiles:
                assert text.startswith("InChI=") or not text, "only an InChI may be read as a tautomer"
                continue
            assert answers(text)[: len(right)] == right[: len(answers(text))], text
            compared += 1
    assert compared >= MOLECULES * (SPELLINGS + 3)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ('substructure("C1CC")', "INVALID_SMARTS"),
        ('substructure("[$(C")', "INVALID_SMARTS"),
        ('similar("xyz", 0.5)', "INVALID_SMILES"),
        ('colour("C")', "UNKNOWN_FIELD"),
        ("substructure(C)", "INVALID_FILTER"),
    ],
)
def test_a_bad_question_about_structures_is_refused_with_its_reason(client: Client, query: str, reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client.search("acid", library="chebi", filter=query)
    assert caught.value.reason == reason


def test_contradictory_filters_find_nothing(channel: grpc.Channel) -> None:
    assert every_hit(channel, filter='substructure("c1ccccc1") AND aromatic_rings = 0') == []
    assert every_hit(channel, text="acid", filter="charge < 0 AND charge > 0") == []


def test_structures_are_drawn_and_sizes_are_limited(channel: grpc.Channel) -> None:
    door = StructureServiceStub(channel)
    drawn = door.DrawStructure(structure.DrawStructureRequest(structure="CCO", substructure="[OH]", dark=True, width=400))
    assert drawn.svg.startswith("<svg")
    with pytest.raises(grpc.RpcError, match="width is 9000"):
        door.DrawStructure(structure.DrawStructureRequest(structure="CCO", width=9_000))


def test_structures_survive_a_restart_and_a_lost_index_is_filled_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("structures") / "data"
    library = f"small-{uuid.uuid4().hex[:8]}"
    ask = search.SearchCompoundsRequest(parent=f"libraries/{library}", filter='substructure("[#7]")')

    def names(address: str) -> set[str]:
        with grpc.insecure_channel(address) as channel:
            return {hit.compound.display_name for hit in SearchServiceStub(channel).SearchCompounds(ask).hits}

    with running_server(folder) as first, Client(first.address) as client:
        client.import_compounds([{"smiles": "CCN", "name": "ethylamine"}, {"smiles": "CCO", "name": "ethanol"}], library=library)
        assert names(first.address) == {"ethylamine"}
    log = folder / "structures" / "structures.log"
    whole = log.read_bytes()
    # What a power cut may leave of a record that nobody was promised.
    log.write_bytes(whole + whole[-40:-7])
    with running_server(folder) as second:
        assert names(second.address) == {"ethylamine"}
    log.unlink()
    with running_server(folder) as third:
        for _ in range(100):
            try:
                assert names(third.address) == {"ethylamine"}
                break
            except grpc.RpcError as error:
                assert "being filled" in str(error)
        else:
            raise AssertionError("the index was not filled")
