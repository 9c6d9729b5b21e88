"""Molecules from words: valid, once each, filtered, with what the library knows of them; the same for the same seed; stopped when told."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from server.domain.errors import AtomasError, Reason
from server.domain.generation import Candidate, Generation, GenerationRequest, GenerationState, Task
from server.jobs import Generate
from server.ports import Ports
from server.usecases import run_generation as running
from server.usecases.generate_molecules import start_molecules
from server.usecases.run_generation import cancel_generation, get_generation, run_generation
from server.usecases.track_operations import run_job, sweep
from tests.builders import import_rows, row
from tests.fakes_generations import FakeGenerator
from tests.unit.conftest import World

SMILES = ["OCC", "CCO", "C1CC1(", "c1ccccc1O", "CCN", "CC(=O)O", "CCCl", "c1ccncc1", "CCCCCCO", "O=C=O"]


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator(SMILES)


@pytest.fixture
def ports(world: World, generator: FakeGenerator) -> Ports:
    import_rows(world.ports, [row(1, "CCO", "A:1", "ethanol", "a drinkable alcohol"), row(2, "Oc1ccccc1C", "A:2", "cresol", "a phenol")])
    world.work()
    return replace(world.ports, generator=generator)


def request(ports: Ports, **changes: object) -> GenerationRequest:
    plain = GenerationRequest(Task.MOLECULES, "an alcohol", ("lib",), 4, len(SMILES), ports.models.serving(), 30.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def started(ports: Ports, **changes: object) -> Generation:
    return start_molecules(request(ports, **changes), ports, 1_000)


def generated(ports: Ports, **changes: object) -> tuple[Generation, list[Candidate]]:
    generation = started(ports, **changes)
    run_generation(generation.id, ports)
    return found(generation, ports)


def found(generation: Generation, ports: Ports) -> tuple[Generation, list[Candidate]]:
    ended, findings = get_generation(generation.id, ports)
    return ended, [each for each in findings if isinstance(each, Candidate)]


def refusal(call: Callable[[], object]) -> Reason:
    with pytest.raises(AtomasError) as caught:
        call()
    return caught.value.reason


def test_every_candidate_is_valid_and_comes_once(ports: Ports) -> None:
    generation, candidates = generated(ports)
    assert generation.state is GenerationState.SUCCEEDED
    assert generation.shortfall == ""
    assert sorted(each.smiles for each in candidates) == ["CC(=O)O", "CCN", "CCO", "Oc1ccccc1"]
    assert generation.counts.dropped_by_reason == {"DUPLICATE": 1, "INVALID_SMILES": 1}
    assert (generation.counts.attempted, generation.counts.kept) == (6, 4)


def test_alignment_orders_unless_the_order_of_the_decoder_is_kept(ports: Ports) -> None:
    _, aligned = generated(ports)
    _, kept = generated(ports, keep_order=True)
    assert [each.alignment for each in aligned] == sorted((each.alignment for each in aligned), reverse=True)
    assert [each.log_probability for each in kept] == sorted((each.log_probability for each in kept), reverse=True)
    assert {each.inchikey for each in aligned} == {each.inchikey for each in kept}


def test_what_the_library_holds_is_told_with_the_nearest_of_it(ports: Ports) -> None:
    _, candidates = generated(ports)
    ethanol = next(each for each in candidates if each.smiles == "CCO")
    phenol = next(each for each in candidates if each.smiles == "Oc1ccccc1")
    assert (ethanol.known, phenol.known) == (True, False)
    assert (ethanol.nearest[0].display_name, ethanol.nearest[0].tanimoto) == ("ethanol", 1.0)
    assert phenol.nearest[0].display_name == "cresol"
    assert 0.2 < phenol.nearest[0].tanimoto < 1.0


def test_without_a_structure_index_the_nearest_come_by_vector(world: World, ports: Ports) -> None:
    _, with_index = generated(ports, count=1)
    world.structures.complete = False
    _, without = generated(ports, count=1)
    assert without == with_index


def test_novelty_is_judged_in_all_libraries_where_none_is_named(ports: Ports) -> None:
    _, candidates = generated(ports, libraries=None)
    assert [each.smiles for each in candidates if each.known] == ["CCO"]


@pytest.mark.parametrize(
    ("filter", "kept"),
    [
        ("molecular_weight < 50", {"CCO", "CCN", "O=C=O"}),
        ('substructure("c1ccccc1")', {"Oc1ccccc1"}),
        ('NOT substructure("[OH]") AND elements.O = 0', {"CCN", "CCCl", "c1ccncc1"}),
        ('similar("CCO", 0.9)', {"CCO"}),
        ('same_skeleton("CCN")', {"CCN"}),
        ('superstructure("OCCN")', {"CCO", "CCN"}),
    ],
)
def test_filters_are_those_of_searches(ports: Ports, filter: str, kept: set[str]) -> None:
    generation, candidates = generated(ports, filter=filter, count=9, max_attempts=10)
    assert {each.smiles for each in candidates} == kept
    assert generation.counts.dropped_by_reason["FILTERED"] == 8 - len(kept)
    assert generation.shortfall == "BUDGET"
    assert generation.counts.attempted == 10 == generation.counts.kept + sum(generation.counts.dropped_by_reason.values())


def test_conditions_that_nothing_meets_end_with_the_reason(ports: Ports) -> None:
    generation, candidates = generated(ports, filter="rings > 5 AND rings < 2", count=2)
    assert (candidates, generation.state, generation.shortfall) == ([], GenerationState.SUCCEEDED, "BUDGET")
    assert generation.counts.attempted == generation.request.max_attempts == 40


def test_the_same_seed_gives_the_same_and_a_chosen_one_is_recorded(ports: Ports) -> None:
    assert generated(ports, seed=3)[1] == generated(ports, seed=3)[1]
    assert generated(ports, seed=3)[1] != generated(ports, seed=7)[1]
    chosen = started(ports, seed=0).request.seed
    assert chosen > 0
    assert started(ports, seed=0).request.seed != chosen


def test_the_decoder_is_shown_the_library_unless_told_not_to(ports: Ports, generator: FakeGenerator) -> None:
    generation, _ = generated(ports)
    assert {each.smiles for each in generator.shown} == {"CCO", "Cc1ccccc1O"}
    assert {each.display_name for each in generation.neighbours} == {"ethanol", "cresol"}
    generated(ports, ignore_library=True)
    assert list(generator.shown) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": " "}, Reason.EMPTY_QUERY),
        ({"source": "x" * 1_001}, Reason.TEXT_TOO_LONG),
        ({"count": 1_000}, Reason.TOO_MANY_ITEMS),
        ({"count": -1}, Reason.INVALID_ARGUMENT),
        ({"max_attempts": 1_000_000}, Reason.INVALID_ARGUMENT),
        ({"seed": -1}, Reason.INVALID_ARGUMENT),
        ({"libraries": ("nowhere",)}, Reason.LIBRARY_NOT_FOUND),
        ({"filter": "rings >"}, Reason.INVALID_FILTER),
        ({"filter": 'id = "A:1"'}, Reason.INVALID_FILTER),
        ({"filter": "has(texts)"}, Reason.INVALID_FILTER),
        ({"filter": "metadata.source = 1"}, Reason.UNKNOWN_FIELD),
        ({"filter": 'substructure("c1ccc")'}, Reason.INVALID_SMARTS),
    ],
)
def test_bad_requests_are_refused_before_anything_is_done(ports: Ports, changes: dict[str, object], reason: Reason) -> None:
    assert refusal(lambda: started(ports, **changes)) is reason


def test_text_beyond_what_the_model_reads_is_refused(world: World, ports: Ports) -> None:
    world.encoder.model = replace(world.encoder.model, max_tokens=3)
    assert refusal(lambda: started(ports, source="one two three four")) is Reason.TEXT_TOO_LONG


def test_nonsense_still_gives_molecules(ports: Ports) -> None:
    assert len(generated(ports, source="zxqv ~~~ 123")[1]) == 4


def test_molecules_beyond_the_model_are_dropped(world: World, ports: Ports) -> None:
    world.encoder.model = replace(world.encoder.model, max_tokens=6)
    generation, candidates = generated(ports, count=9, max_attempts=10, filter="heavy_atoms < 8")
    assert generation.counts.dropped_by_reason["TOO_LARGE"] == 4
    assert all(len(each.smiles) <= 6 for each in candidates)


def test_a_process_without_a_decoder_says_so(world: World, ports: Ports) -> None:
    generation = started(ports)
    run_generation(generation.id, world.ports)
    ended, _ = get_generation(generation.id, ports)
    assert ended.state is GenerationState.FAILED
    assert ended.error is not None
    assert ended.error[0] == Reason.MODEL_NOT_READY


@pytest.fixture
def in_background(ports: Ports) -> Iterator[Callable[[Generation], threading.Thread]]:
    threads: list[threading.Thread] = []

    def begin(generation: Generation) -> threading.Thread:
        threads.append(threading.Thread(target=run_generation, args=(generation.id, ports)))
        threads[-1].start()
        return threads[-1]

    yield begin
    for thread in threads:
        thread.join(5)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_candidates_are_seen_as_they_are_found_and_cancelling_ends_the_work_within_a_second(
    ports: Ports, generator: FakeGenerator, in_background: Callable[[Generation], threading.Thread]
) -> None:
    generator.slow = True
    generation = started(ports)
    thread = in_background(generation)
    wait_until(lambda: len(found(generation, ports)[1]) == 2)
    assert found(generation, ports)[0].state is GenerationState.RUNNING
    began = time.monotonic()
    cancel_generation(generation.id, ports)
    assert found(generation, ports)[0].state is GenerationState.CANCELLED
    thread.join(5)
    assert time.monotonic() - began < 1.0
    ended, candidates = found(generation, ports)
    assert (ended.state, len(candidates)) == (GenerationState.CANCELLED, 2)


def test_the_time_it_may_take_is_kept(ports: Ports, generator: FakeGenerator) -> None:
    generator.slow = True
    generation, candidates = generated(ports, seconds=0.3)
    assert (generation.state, generation.shortfall, len(candidates)) == (GenerationState.SUCCEEDED, "DEADLINE", 2)


def test_nothing_in_time_is_a_failure(ports: Ports) -> None:
    generation, _ = generated(ports, seconds=0.0)
    assert generation.error is not None
    assert generation.error[0] == Reason.DEADLINE_EXCEEDED


def test_another_worker_goes_on_where_one_died(ports: Ports, generator: FakeGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    _, undisturbed = generated(ports, seed=3)
    generation = started(ports, seed=3)
    rounds: list[int] = []
    generator.at_once = 2

    def die() -> None:
        rounds.append(1)
        if len(rounds) == 2:
            raise SystemExit

    generator.on_round = die
    monkeypatch.setattr(running, "_release", lambda held, ports: None)
    with pytest.raises(SystemExit):
        run_generation(generation.id, ports)
    left, some = found(generation, ports)
    assert left.state is GenerationState.RUNNING
    assert 0 < len(some) < len(undisturbed)
    run_generation(generation.id, ports)
    assert found(generation, ports)[0].state is GenerationState.RUNNING, "a worker that may still live is left alone"
    monkeypatch.setattr(running, "SILENT_SECONDS", 0.0)
    run_generation(generation.id, ports)
    ended, candidates = found(generation, ports)
    assert (ended.state, candidates) == (GenerationState.SUCCEEDED, undisturbed)


def test_the_sweep_sends_what_was_lost(world: World, ports: Ports) -> None:
    generation = started(ports)
    world.queue.lose_all()
    sweep(ports)
    assert world.queue.jobs == [Generate(generation.id)]
    world.queue.run_all(lambda job: run_job(job, ports))
    assert found(generation, ports)[0].state is GenerationState.SUCCEEDED


def test_a_store_that_is_away_is_waited_for(world: World, ports: Ports, generator: FakeGenerator) -> None:
    def away() -> None:
        raise AtomasError(Reason.INDEX_UNAVAILABLE, "The index is away.")

    generation = started(ports)
    generator.on_round = away
    assert refusal(lambda: run_generation(generation.id, ports)) is Reason.INDEX_UNAVAILABLE
    assert found(generation, ports)[0].state is GenerationState.QUEUED
    generator.on_round = lambda: None
    run_generation(generation.id, ports)
    assert found(generation, ports)[0].state is GenerationState.SUCCEEDED
