"""What every structure index promises, whoever keeps the structures; right is what RDKit says when asked molecule by molecule."""

import gzip
import json
import random
import uuid
from collections.abc import Callable, Iterator

import pytest
from rdkit import Chem, DataStructs

from encoder.molecules import Molecule, MoleculeError, standardise
from encoder.patterns import read_pattern
from server.domain.compounds import point_id
from server.domain.errors import AtomasError, Reason
from server.ports import StructureEntry, StructureIndex
from tests.contract.structure_indexes import STRUCTURE_INDEXES
from tests.running import ROOT

COUNT = 120
PATTERNS = [
    "c1ccccc1",
    "C(=O)[OH]",
    "smarts:C(=O)[OH]",
    "[#7;R]",
    "[!#6;!#1]",
    "C1CCC2C(C1)CCC3C2CCC4C3CCC4",
    "[Na+]",
    "[Co]",
    "[Cl,Br,I]",
    "N=N",
    "*~*~*~S",
    "[$([NX3][CX3]=O)]",
    "[r5]",
    "[CH3][CH2]O",
    "CCCCCCCCCCCC",
    "[Xe]",
    "C[C@H](N)C(=O)O",
    "CS(C)=O",
    "C[S+](C)[O-]",
    "[13C]",
    "P(=O)(O)(O)O",
    "[*]",
    "*OC",
    "c1ccccc1-c",
    "O=c1cc[nH]cc1",
    "[C;X4;!R]~[O;D1]",
    "Cc1ccccc1.O",
    "C#C",
    "c1ccccc#1",
]


def entry(molecule: Molecule, library: str = "lib") -> StructureEntry:
    return StructureEntry(point_id(library, molecule.inchikey), library, molecule.smiles, molecule.skeleton, molecule.fingerprint)


@pytest.fixture(scope="module")
def molecules() -> list[Molecule]:
    """Real compounds, every other one of the first rows and some that are rare."""
    with gzip.open(ROOT / "data" / "chebi_sample.jsonl.gz", "rt", encoding="utf-8") as source:
        smiles = [json.loads(line)["smiles"] for line, _ in zip(source, range(2 * COUNT), strict=False)][::2]
    found = {}
    for text in [
        *smiles,
        "CC(=O)[O-].[Na+]",
        "CC(=O)O",
        "[Xe]",
        "*CCO",
        "C[13CH3]",
        "c1ccc2ccccc2c1",
        "O",
        "N[C@@H](C)C(=O)O",
        "COc1cc#ccc1",
        "CC#C",
    ]:
        try:
            molecule = standardise(text)
        except MoleculeError:
            continue
        found[molecule.inchikey] = molecule
    return list(found.values())


@pytest.fixture(params=STRUCTURE_INDEXES, scope="module")
def empty(request: pytest.FixtureRequest) -> Iterator[StructureIndex]:
    """One index for the whole module: the keeper takes a second to start."""
    with STRUCTURE_INDEXES[request.param]() as opened:
        yield opened


@pytest.fixture
def index(empty: StructureIndex, molecules: list[Molecule]) -> StructureIndex:
    """With the molecules in one library and some of them in another, as imports bring them, in pieces."""
    if empty.count("lib") != len(molecules) or empty.count("other") != 10:
        empty.renew()
        for start in range(0, len(molecules), 40):
            empty.upsert([entry(molecule) for molecule in molecules[start : start + 40]])
        empty.upsert([entry(molecule, "other") for molecule in molecules[:10]])
        empty.declare_complete()
    return empty


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_what_it_matches_and_nothing_else(index: StructureIndex, molecules: list[Molecule], pattern: str) -> None:
    query = read_pattern(pattern).query
    right = [point_id("lib", m.inchikey) for m in molecules if Chem.MolFromSmiles(m.smiles).HasSubstructMatch(query)]
    assert sorted(index.containing(pattern, ["lib"])) == sorted(right)


def test_a_superstructure_is_asked_for_its_parts(index: StructureIndex, molecules: list[Molecule]) -> None:
    found = 0
    aryne = standardise("COc1cc#ccc1C")
    for whole in [aryne, *sorted(molecules, key=lambda m: -m.descriptors.heavy_atoms)[5:40:5]]:
        query = Chem.MolFromSmiles(whole.smiles)
        right = [point_id("lib", m.inchikey) for m in molecules if query.HasSubstructMatch(Chem.MolFromSmiles(m.smiles))]
        assert sorted(index.contained_in(whole.smiles, ["lib"])) == sorted(right)
        found += len(right)
    assert found > 10


def test_a_skeleton_is_shared_by_salts_ions_and_stereoisomers(index: StructureIndex) -> None:
    for spellings in (["CC(=O)O", "CC(=O)[O-].[Na+]"], ["N[C@@H](C)C(=O)O"]):
        ids = {point_id("lib", standardise(text).inchikey) for text in spellings}
        for asked in (*spellings, spellings[0].replace("@@", "@")):
            assert ids <= set(index.with_skeleton(standardise(asked).skeleton, ["lib"]))
    assert index.with_skeleton("AAAAAAAAAAAAAA") == []


def test_similarity_is_tanimoto_of_the_fingerprints(index: StructureIndex, molecules: list[Molecule]) -> None:
    vectors = [DataStructs.CreateFromBinaryText(molecule.fingerprint) for molecule in molecules]
    ids = [point_id("lib", molecule.inchikey) for molecule in molecules]
    chooser = random.Random(0)
    for asked in chooser.sample(range(len(molecules)), 12):
        right = sorted(
            zip(DataStructs.BulkTanimotoSimilarity(vectors[asked], vectors), ids, strict=True), key=lambda pair: (-pair[0], pair[1])
        )
        for count in (1, 10, 77, len(ids), len(ids) + 50):
            found = index.nearest(molecules[asked].fingerprint, count, ["lib"])
            assert [point.id for point in found] == [id for _, id in right[:count]]
            assert [point.score for point in found] == pytest.approx([score for score, _ in right[:count]], abs=1e-6)
        for threshold in (0.0, 0.2, 0.6, 1.0):
            above = index.similar(molecules[asked].fingerprint, threshold, ["lib"])
            assert [point.id for point in above] == [id for score, id in right if score >= threshold - 1e-7]
    chosen = chooser.sample(ids, 9)
    scores = index.tanimoto(molecules[3].fingerprint, [*chosen, uuid.uuid4()])
    assert set(scores) == set(chosen)
    expected = dict(zip(ids, DataStructs.BulkTanimotoSimilarity(vectors[3], vectors), strict=True))
    assert all(scores[id] == pytest.approx(expected[id], abs=1e-6) for id in chosen)


def test_libraries_are_searched_alone_several_at_once_or_all(index: StructureIndex, molecules: list[Molecule]) -> None:
    assert index.count() == len(molecules) + 10
    assert len(index.containing("*", ["other"])) == 10
    assert len(index.containing("*", ["other", "lib"])) == len(molecules) + 10
    assert len(index.containing("*")) == len(molecules) + 10
    assert index.containing("*", []) == []
    assert index.containing("*", ["nowhere"]) == []
    both = {point_id(library, molecules[0].inchikey) for library in ("lib", "other")}
    assert both <= {point.id for point in index.similar(molecules[0].fingerprint, 1.0)}


def test_what_is_deleted_is_found_no_more_and_what_returns_is(index: StructureIndex, molecules: list[Molecule]) -> None:
    gone = [entry(molecule, "other") for molecule in molecules[:3]]
    index.delete([one.id for one in gone])
    index.delete([uuid.uuid4()])
    assert index.count("other") == 7
    assert not {one.id for one in gone} & set(index.containing("*", ["other"]))
    assert not {one.id for one in gone} & {point.id for point in index.nearest(gone[0].fingerprint, 1_000)}
    assert index.upsert(gone) == index.generation
    assert {one.id for one in gone} <= set(index.containing("*", ["other"]))
    index.delete_library("other")
    index.delete_library("other")
    assert index.count("other") == 0
    assert index.count() == index.count("lib") == len(molecules)


def test_upserting_again_changes_nothing_and_another_structure_replaces(index: StructureIndex, molecules: list[Molecule]) -> None:
    before = index.ids()
    index.upsert([entry(molecule) for molecule in molecules[:50]])
    assert index.ids() == before
    id, water, xenon = uuid.uuid4(), standardise("O"), standardise("[Xe]")
    for molecule in (water, xenon):
        index.upsert([StructureEntry(id, "third", molecule.smiles, molecule.skeleton, molecule.fingerprint)])
    assert index.containing("[Xe]", ["third"]) == [id]
    assert index.containing("smarts:O", ["third"]) == []
    index.delete_library("third")


def test_matched_atoms_are_those_of_every_match(index: StructureIndex) -> None:
    smiles = ["CC(=O)Oc1ccccc1C(=O)O", "CCO", "C"]
    atoms = index.matched_atoms("smarts:C(=O)[OX2]", smiles)
    assert atoms == [(1, 2, 3, 10, 11, 12), (), ()]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("C1CC", Reason.INVALID_SMARTS),
        ("[C", Reason.INVALID_SMARTS),
        ("smiles:C1CC", Reason.INVALID_SMILES),
        ("InChI=1S/nonsense", Reason.INVALID_INCHI),
        (" ", Reason.EMPTY),
        ("C" * 20_000, Reason.TOO_LARGE),
        ("[$(" * 500 + "C" + ")]" * 500, Reason.TOO_LARGE),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused_by_every_question(index: StructureIndex, pattern: str, reason: Reason) -> None:
    for ask in (index.containing, index.check_pattern, lambda text: index.matched_atoms(text, ["C"])):
        with pytest.raises(AtomasError) as caught:
            ask(pattern)
        assert caught.value.reason is reason
        assert caught.value.message


def test_a_renewed_index_is_empty_under_another_name(index: StructureIndex) -> None:
    former = index.generation
    index.renew()
    assert index.generation != former
    assert (index.count(), index.ids()) == (0, [])


def test_nothing_is_answered_until_everything_is_there(index: StructureIndex, molecules: list[Molecule]) -> None:
    assert index.complete
    index.renew()
    assert not index.complete
    index.upsert([entry(molecules[0])])
    fingerprint = molecules[0].fingerprint
    questions: list[Callable[[], object]] = [
        lambda: index.containing("C"),
        lambda: index.contained_in("CCO"),
        lambda: index.with_skeleton(molecules[0].skeleton),
        lambda: index.similar(fingerprint, 0.5),
        lambda: index.nearest(fingerprint, 1),
    ]
    for ask in questions:
        with pytest.raises(AtomasError) as caught:
            ask()
        assert caught.value.reason is Reason.INDEX_UNAVAILABLE
    index.declare_complete()
    assert index.complete
    assert [point.id for point in index.nearest(fingerprint, 1)] == [entry(molecules[0]).id]
