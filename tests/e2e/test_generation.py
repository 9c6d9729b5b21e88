"""Generation with the shipped decoder through the API and the command line: complete candidates, conditions, seeds, ends, refusals."""

import json
import threading

import pytest
from rdkit import Chem

from atomas import AtomasError, Client, DeadlineExceededError, UnavailableError
from atomas.generating import Candidate, Found
from atomas.types import Operation, OperationState
from tests.faults.fleets import wait_for
from tests.running import RunningServer, atomas

TEXT = "a phenol with a methoxy group"
# Nothing meets it.
IMPOSSIBLE = "rings > 5 AND rings < 2"
ACID = "CC(=O)Oc1ccccc1C(=O)O"
LONG_CHAIN = "C" * 2_000


def running(client: Client) -> list[Operation]:
    """Generations that are not done."""
    return [each for each in client.operations() if each.resource_name.startswith("operations/generation-") and not each.done]


def ready(client: Client) -> bool:
    """Whether the structures that were imported can be asked for: until then neighbours are those by vector."""
    try:
        return bool(client.search(filter='substructure("C")', library="chebi", limit=1).hits)
    except UnavailableError:
        return False


def test_every_candidate_is_complete_and_the_recorded_seed_gives_the_same_again(client: Client) -> None:
    wait_for(lambda: ready(client), "the structures were not indexed")
    seen: list[Found] = []
    answer = client.generate(TEXT, library="chebi", count=6, on_found=seen.append)
    assert answer.shortfall_reason == ""
    assert len({each.inchikey for each in answer.candidates}) == answer.counts.kept == 6
    assert answer.counts.attempted == 6 + sum(answer.counts.dropped_by_reason.values())
    assert {each for each in seen if isinstance(each, Candidate)} == set(answer.candidates)
    assert [each.alignment for each in answer.candidates] == sorted((each.alignment for each in answer.candidates), reverse=True)
    for each in answer.candidates:
        assert Chem.MolToSmiles(Chem.MolFromSmiles(each.smiles)) == each.smiles
        assert each.log_probability < 0.0
        assert -1.0 <= each.alignment <= 1.0
        assert len(each.nearest) == 3
        similarities = [near.tanimoto for near in each.nearest]
        assert similarities == sorted(similarities, reverse=True)
        assert all(0.0 <= similarity <= 1.0 for similarity in similarities)
        assert each.known == any(near.compound.endswith(each.inchikey) for near in each.nearest)
        assert each.descriptors is not None
        assert each.descriptors.formula
    again = client.generate(TEXT, library="chebi", count=6, seed=answer.seed)
    assert (again.candidates, again.counts, again.seed) == (answer.candidates, answer.counts, answer.seed)


def test_conditions_hold_for_every_candidate_and_others_are_drawn_for_those_that_fail(client: Client) -> None:
    condition = 'molecular_weight < 200 AND rings >= 1 AND substructure("c1ccccc1") AND NOT smarts("[OH]")'
    answer = client.generate(TEXT, library="chebi", count=3, filter=condition, seed=2)
    assert len(answer.candidates) == 3
    assert answer.counts.dropped_by_reason["FILTERED"] > 0
    ring, hydroxyl = Chem.MolFromSmarts("c1ccccc1"), Chem.MolFromSmarts("[OH]")
    for each in answer.candidates:
        molecule = Chem.MolFromSmiles(each.smiles)
        assert molecule.HasSubstructMatch(ring)
        assert not molecule.HasSubstructMatch(hydroxyl)
        assert each.descriptors is not None
        assert each.descriptors.molecular_weight < 200


@pytest.mark.parametrize("text", ["qwxz vrrp 77 zz!", "的的的"])
def test_nonsense_is_answered(client: Client, text: str) -> None:
    answer = client.generate(text, library="chebi", count=2, max_attempts=20, seed=1)
    assert len(answer.candidates) == 2 or answer.shortfall_reason == "BUDGET"
    assert answer.counts.attempted <= 20


def test_conditions_that_nothing_meets_end_with_the_reason(client: Client) -> None:
    answer = client.generate(TEXT, library="chebi", count=2, filter=IMPOSSIBLE, max_attempts=24, seed=1)
    assert (answer.candidates, answer.shortfall_reason, answer.counts.attempted) == ((), "BUDGET", 24)
    assert answer.counts.dropped_by_reason["FILTERED"] > 0


def test_a_caller_without_patience_ends_the_work_for_those_behind_it(client: Client) -> None:
    with pytest.raises(DeadlineExceededError):
        client.generate(TEXT, library="chebi", count=100, filter=IMPOSSIBLE, max_attempts=5_000, timeout_seconds=0.5)
    assert client.generate(TEXT, library="chebi", count=1).candidates
    assert not running(client)


def test_a_cancelled_generation_keeps_what_it_found(server: RunningServer, client: Client) -> None:
    begun, failure = threading.Event(), []

    def ask() -> None:
        try:
            with Client(server.address) as other:
                condition = "molecular_weight < 125"
                other.generate(TEXT, library="chebi", count=100, filter=condition, max_attempts=5_000, on_found=lambda _: begun.set())
        except AtomasError as error:
            failure.append(error.reason)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(60)
    [asked] = running(client)
    client.cancel(asked)
    asking.join(60)
    assert failure == ["CANCELLED"]
    assert client.operation(asked).state is OperationState.CANCELLED
    assert client.generate(TEXT, library="chebi", count=1).candidates


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"text": ""}, "EMPTY_QUERY"),
        ({"text": " \n\t"}, "EMPTY_QUERY"),
        ({"text": "phenol " * 5_000}, "TEXT_TOO_LONG"),
        ({"text": TEXT, "count": 1_000}, "TOO_MANY_ITEMS"),
        ({"text": TEXT, "count": -1}, "INVALID_ARGUMENT"),
        ({"text": TEXT, "max_attempts": 1_000_000}, "INVALID_ARGUMENT"),
        ({"text": TEXT, "seed": -5}, "INVALID_ARGUMENT"),
        ({"text": TEXT, "filter": "rings <"}, "INVALID_FILTER"),
        ({"text": TEXT, "filter": 'substructure("[C")'}, "INVALID_SMARTS"),
        ({"text": TEXT, "library": "nowhere"}, "LIBRARY_NOT_FOUND"),
    ],
)
def test_what_cannot_be_generated_is_refused_with_its_reason(client: Client, asked: dict[str, object], reason: str) -> None:
    with pytest.raises(AtomasError) as caught:
        client.generate(**asked)  # type: ignore[arg-type]  # fields by name
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"structure": ""}, "EMPTY"),
        ({"structure": "C(("}, "INVALID_SMILES"),
        ({"structure": LONG_CHAIN}, "TOO_LARGE"),
        ({"structure": "CCO", "count": 1_000}, "TOO_MANY_ITEMS"),
        ({"compound": "libraries/chebi/compounds/AAAAAAAAAAAAAA-AAAAAAAAAA-N"}, "COMPOUND_NOT_FOUND"),
    ],
)
def test_what_cannot_be_described_is_refused_with_its_reason(client: Client, asked: dict[str, object], reason: str) -> None:
    with pytest.raises(AtomasError) as caught:
        client.describe(**asked)  # type: ignore[arg-type]  # fields by name
    assert caught.value.reason == reason


def test_a_description_cites_the_neighbours_that_were_read_and_counts_what_was_dropped(client: Client) -> None:
    answer = client.describe(ACID, library="chebi", count=2)
    assert answer.smiles == ACID
    assert 1 <= len(answer.neighbours) <= 5
    for near in answer.neighbours:
        stored = client.get_compound(near.compound)
        assert stored.descriptions or stored.name
        assert stored.smiles != ACID
    assert len(answer.descriptions) == answer.counts.kept
    assert answer.counts.attempted == answer.counts.kept + sum(answer.counts.dropped_by_reason.values())
    for each in answer.descriptions:
        assert each.text
        assert each.log_probability < 0.0
        assert not set(each.dropped_sentences) & {each.text}
    alone = client.describe(ACID, library="chebi", ignore_library=True)
    assert alone.neighbours == ()
    assert alone.descriptions


def test_the_commands_print_candidates_and_descriptions(server: RunningServer) -> None:
    generated = atomas(server.address, "generate", TEXT, "--count", "2", "--constraints", "rings < 3", "--seed", "4", "--library", "chebi")
    assert generated.returncode == 0, generated.stderr
    assert "2 kept of" in generated.stdout
    assert "Seed 4." in generated.stdout
    described = atomas(server.address, "describe", ACID, "--library", "chebi", "--json")
    assert described.returncode == 0, described.stderr
    assert json.loads(described.stdout)["descriptions"][0]["text"]
    refused = atomas(server.address, "generate", TEXT, "--count", "1000")
    assert refused.returncode != 0
    assert "1,000 molecules were asked for; one generation gives 1 to 100." in refused.stderr
