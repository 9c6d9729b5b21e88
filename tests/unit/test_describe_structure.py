"""Words for molecules: beside alike compounds, which are cited, and without sentences that the structure contradicts."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from encoder.context import BRIEF, DETAILED
from encoder.facts import Facts
from server.domain.errors import AtomasError, Reason
from server.domain.generation import Description, Generation, GenerationRequest, GenerationState, Task
from server.ports import Ports
from server.usecases import describe_structure
from server.usecases.checked_facts import check_text, contradicts
from server.usecases.describe_structure import start_description
from server.usecases.run_generation import get_generation, run_generation
from tests.builders import import_rows, row
from tests.fakes_generations import FakeGenerator
from tests.unit.conftest import World

ETHANOL = "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"
PROSE = "The molecule is a primary alcohol that is ethane in which one of the hydrogens is replaced by a hydroxy group."
TRUE, FALSE = "The molecule is a primary alcohol.", "It is a ketone and an organochlorine compound."


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator(texts=[f"{TRUE} {FALSE}", TRUE, "The molecule is a thing.", FALSE])


@pytest.fixture
def ports(world: World, generator: FakeGenerator) -> Ports:
    rows = [
        row(1, "CCO", "A:1", "ethanol", PROSE),
        row(2, "CCCCO", "A:2", "butanol"),
        row(3, "c1ccccc1", "A:3"),
        row(4, "CCCCCO", "A:4", "", PROSE),
    ]
    import_rows(world.ports, rows)
    world.work()
    return replace(world.ports, generator=generator)


def described(ports: Ports, compound: tuple[str, str] | None = None, **changes: object) -> tuple[Generation, list[Description]]:
    plain = GenerationRequest(Task.DESCRIPTIONS, "OCCC", ("lib",), 1, 1, ports.models.serving(), 30.0)
    generation = start_description(replace(plain, **changes), compound, ports)  # type: ignore[arg-type]
    run_generation(generation.id, ports)
    ended, findings = get_generation(generation.id, ports)
    return ended, [each for each in findings if isinstance(each, Description)]


def refusal(call: Callable[[], object]) -> Reason:
    with pytest.raises(AtomasError) as caught:
        call()
    return caught.value.reason


def test_a_sentence_that_the_structure_contradicts_is_dropped_and_listed(ports: Ports) -> None:
    generation, [description] = described(ports)
    assert generation.request.source == "CCCO"
    assert (description.text, description.dropped_sentences) == (TRUE, (FALSE,))


def test_of_equal_and_contradicted_descriptions_one_is_kept_and_the_rest_counted(ports: Ports) -> None:
    generation, descriptions = described(ports, count=4)
    assert [each.text for each in descriptions] == [TRUE, "The molecule is a thing."]
    assert generation.counts.dropped_by_reason == {"CONTRADICTED": 1, "DUPLICATE": 1}
    assert (generation.counts.attempted, generation.shortfall) == (4, "BUDGET")


def test_neighbours_with_something_to_say_are_shown_and_cited(ports: Ports, generator: FakeGenerator) -> None:
    generation, _ = described(ports)
    assert {each.smiles for each in generation.neighbours} == {"CCO", "CCCCO", "CCCCCO"}
    assert {each.smiles for each in generator.shown} == {"CCO", "CCCCO", "CCCCCO"}
    assert [each.tanimoto for each in generation.neighbours] == sorted((each.tanimoto for each in generation.neighbours), reverse=True)


def test_a_molecule_is_not_shown_what_is_said_of_itself(ports: Ports, generator: FakeGenerator) -> None:
    generation, _ = described(ports, compound=("lib", ETHANOL), source="")
    assert generation.request.source == "CCO"
    assert "CCO" not in {each.smiles for each in generator.shown}


def test_without_the_library_the_structure_speaks_alone(ports: Ports, generator: FakeGenerator) -> None:
    generation, descriptions = described(ports, ignore_library=True)
    assert (generation.neighbours, list(generator.shown), len(descriptions)) == ((), [], 1)


def test_nothing_but_contradictions_ends_with_the_reason(ports: Ports, generator: FakeGenerator) -> None:
    generator.texts = [FALSE]
    generation, descriptions = described(ports)
    assert (descriptions, generation.state, generation.shortfall) == ([], GenerationState.SUCCEEDED, "BUDGET")


@pytest.mark.parametrize(
    ("changes", "compound", "reason"),
    [
        ({"count": 11}, None, Reason.TOO_MANY_ITEMS),
        ({"source": "C1CC"}, None, Reason.INVALID_SMILES),
        ({"source": ""}, None, Reason.EMPTY),
        ({"libraries": ("nowhere",)}, None, Reason.LIBRARY_NOT_FOUND),
        ({}, ("lib", "X"), Reason.COMPOUND_NOT_FOUND),
    ],
)
def test_bad_requests_are_refused(ports: Ports, changes: dict[str, object], compound: tuple[str, str] | None, reason: Reason) -> None:
    assert refusal(lambda: described(ports, compound, **changes)) is reason


def test_a_molecule_beyond_what_the_model_reads_is_refused(world: World, ports: Ports) -> None:
    world.encoder.model = replace(world.encoder.model, max_tokens=20)
    assert refusal(lambda: described(ports, source="C" * 30)) is Reason.TOO_LARGE


def test_as_many_neighbours_are_chosen_as_the_decoder_reads() -> None:
    assert (describe_structure.DETAILED, describe_structure.BRIEF) == (DETAILED, BRIEF)


@pytest.mark.parametrize(
    ("sentence", "right", "wrong"),
    [
        ("The molecule is a monocarboxylic acid anion.", "CC(=O)[O-]", "CC(=O)O"),
        ("The molecule is an organic cation.", "C[N+](C)(C)C", "CN(C)C"),
        ("It is a dicarboxylic acid dianion.", "[O-]C(=O)CC(=O)[O-]", "OC(=O)CC(=O)[O-]"),
        ("The molecule is a zwitterion.", "[NH3+]CC(=O)[O-]", "NCC(=O)O"),
        ("It is an organochlorine compound.", "CCCl", "CCBr"),
        ("It has formula C2H6O.", "CCO", "CCCO"),
        ("It contains two rings.", "c1ccc2ccccc2c1", "c1ccccc1"),
        ("It is a primary alcohol and a member of pyridines.", "OCc1ccccn1", "OCc1ccccc1"),
        ("It is a dicarboxylic acid.", "OC(=O)CC(=O)O", "CC(=O)O"),
        ("It is a tertiary alcohol and an aromatic ether.", "CC(C)(O)Oc1ccccc1", "CC(O)Oc1ccccc1"),
    ],
)
def test_what_can_be_counted_is_checked(sentence: str, right: str, wrong: str) -> None:
    assert not contradicts(sentence, Facts(right))
    assert contradicts(sentence, Facts(wrong))


@pytest.mark.parametrize(
    "sentence",
    [
        "It derives from a carboxylic acid.",
        "It is a conjugate acid of an acetate anion.",
        "It has a role as an ACE inhibitor.",
        "The molecule is a hydrocarbon obtained by loss of the chloro group of a ketone.",
        "It is a hydrocarbon that inhibits an aldehyde.",
    ],
)
def test_what_is_said_of_other_molecules_is_not(sentence: str) -> None:
    assert not contradicts(sentence, Facts("CCCC"))


def test_a_text_keeps_its_true_sentences_in_order() -> None:
    checked = check_text("The molecule is a primary alcohol. It is a ketone. It has a role as a solvent.", Facts("CCO"))
    assert checked.text == "The molecule is a primary alcohol. It has a role as a solvent."
    assert checked.contradicted == ("It is a ketone.",)
