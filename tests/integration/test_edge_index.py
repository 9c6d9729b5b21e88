"""The in-process index over restarts, crashes, second owners and optimisations; what it shares with others is in tests/contract."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import qdrant_edge

from server.adapters import edge_index, edge_optimiser, edge_shard
from server.adapters.edge_folder import IndexFolder
from server.adapters.edge_index import EdgeIndex
from server.adapters.qdrant_points import MAX_METADATA_INDEXES, NUMBERS
from server.domain.compounds import JsonValue
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Condition
from server.domain.search import VECTOR_LEGS, Leg
from server.ports import Parts, Point
from tests.fakes_index import FakeIndex
from tests.memory import MEMORY

DIMENSION = 16
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY) as path:
        yield Path(path) / "index"


def points(start: int, stop: int, library: str = "one", seed: int = 0, fields: dict[str, JsonValue] | None = None) -> list[Point]:
    made = np.random.default_rng(seed).standard_normal((stop, 2, DIMENSION)).astype(np.float32)
    return [
        Point(
            uuid.UUID(int=i),
            library,
            {Leg.MOLECULES: made[i, 0], Leg.TEXTS: made[i, 1]} if i % 3 else {Leg.MOLECULES: made[i, 0]},
            fields or {"charge": i % 5, "metadata.parity": "even" if i % 2 == 0 else "odd"},
            f"document {i}",
        )
        for i in range(start, stop)
    ]


def assert_same_answers(index: EdgeIndex, oracle: FakeIndex) -> None:
    queries = list(np.random.default_rng(9).standard_normal((10, DIMENSION)).astype(np.float32))
    for leg in VECTOR_LEGS:
        for condition in (None, Condition("charge", "=", 2), Condition("metadata.parity", "=", "odd")):
            for found, expected in zip(
                index.search(leg, queries, 8, None, condition), oracle.search(leg, queries, 8, None, condition), strict=True
            ):
                assert [hit.id for hit in found] == [hit.id for hit in expected]
                assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-3)
    assert list(index.ids()) == list(oracle.ids())


def graphs(folder: Path) -> int:
    """Vectors in search graphs of the only shard of a closed index."""
    [shard_folder] = (folder / "shards").iterdir()
    shard = qdrant_edge.EdgeShard.load(str(shard_folder))
    try:
        return int(shard.info().indexed_vectors_count)
    finally:
        shard.close()


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_everything_written_is_there_after_a_restart(folder: Path) -> None:
    oracle = FakeIndex("m1", DIMENSION)
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    for store in (index, oracle):
        store.upsert(points(0, 200))
        store.delete([uuid.UUID(int=i) for i in range(50, 60)])
        store.upsert(points(10, 20, library="two", seed=1))
    index.close()
    reopened = EdgeIndex.open(folder, "m1", DIMENSION)
    try:
        assert_same_answers(reopened, oracle)
        assert reopened.count("two") == 10
    finally:
        reopened.close()


def test_a_second_owner_is_told_which_folder_is_taken(folder: Path) -> None:
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    try:
        script = (
            "import sys, pathlib; from server.adapters.edge_index import EdgeIndex; EdgeIndex.open(pathlib.Path(sys.argv[1]), 'm1', 16)"
        )
        outcome = run(script, folder)
        assert outcome.returncode != 0
        assert str(folder) in outcome.stderr
        assert f"pid {os.getpid()}" in outcome.stderr
        with pytest.raises(AtomasError) as raised:
            EdgeIndex.open(folder, "m1", DIMENSION)
        assert raised.value.reason is Reason.DATA_DIR_IN_USE
        index.upsert(points(0, 3))
        assert index.count() == 3
    finally:
        index.close()
    EdgeIndex.open(folder, "m1", DIMENSION).close()


@pytest.mark.parametrize(("model", "dimension"), [("m2", DIMENSION), ("m1", DIMENSION + 1)])
def test_an_index_of_another_model_is_refused_and_left_alone(folder: Path, model: str, dimension: int) -> None:
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    index.upsert(points(0, 3))
    index.close()
    with pytest.raises(AtomasError, match="m1") as raised:
        EdgeIndex.open(folder, model, dimension)
    assert raised.value.reason is Reason.SCHEMA_MISMATCH
    reopened = EdgeIndex.open(folder, "m1", DIMENSION)
    assert reopened.count() == 3
    reopened.close()


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}', '{"format": 1, "surprise": 3}', "\0\0"])
def test_a_damaged_manifest_is_reported_with_what_to_do(folder: Path, content: str) -> None:
    EdgeIndex.open(folder, "m1", DIMENSION).close()
    (folder / "manifest.json").write_text(content)
    with pytest.raises(AtomasError, match="Remove the folder") as raised:
        EdgeIndex.open(folder, "m1", DIMENSION)
    assert raised.value.reason is Reason.INDEX_UNAVAILABLE


def test_a_missing_shard_is_reported_and_the_lock_let_go(folder: Path) -> None:
    EdgeIndex.open(folder, "m1", DIMENSION).close()
    [shard] = (folder / "shards").iterdir()
    shard.rename(folder / "elsewhere")
    for _ in range(2):
        with pytest.raises(AtomasError) as raised:
            EdgeIndex.open(folder, "m1", DIMENSION)
        assert raised.value.reason is Reason.INDEX_UNAVAILABLE


def test_a_closed_index_says_so(folder: Path) -> None:
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    index.close()
    query = points(0, 1)[0].vectors[Leg.MOLECULES]
    calls: list[Callable[[], object]] = [
        index.count,
        lambda: index.upsert(points(0, 1)),
        lambda: index.delete([uuid.UUID(int=0)]),
        lambda: index.delete_library("one"),
        lambda: list(index.ids()),
        lambda: index.search(Leg.MOLECULES, [query], 1),
        lambda: index.fetch_vectors([uuid.UUID(int=0)]),
    ]
    for call in calls:
        with pytest.raises(AtomasError) as raised:
            call()
        assert raised.value.reason is Reason.INDEX_UNAVAILABLE
    index.close()


def test_what_was_acknowledged_survives_kill_9(folder: Path) -> None:
    script = """
import itertools, pathlib, sys
sys.path.insert(0, ".")
from server.adapters.edge_index import EdgeIndex
from tests.integration.test_edge_index import points
index = EdgeIndex.open(pathlib.Path(sys.argv[1]), "m1", 16)
for start in itertools.count(0, 20):
    index.upsert(points(start, start + 20))
    index.flush()
    print(start + 20, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = 0
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 400:
            child.send_signal(signal.SIGKILL)
            break
    rest = child.stdout.read().split()
    child.wait()
    acknowledged = int(rest[-1]) if rest else acknowledged
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    try:
        ids = {id.int for id in index.ids()}
        assert ids >= set(range(acknowledged))
        # The batch that was under way may be there in part, nothing else.
        assert max(ids) < acknowledged + 20
        kept = points(0, acknowledged)
        [[best]] = index.search(Leg.MOLECULES, [kept[-1].vectors[Leg.MOLECULES]], 1)
        assert index.documents([best.id]) == {kept[-1].id: kept[-1].document}
    finally:
        index.close()


def test_the_log_is_emptied_into_segments_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    flush = edge_shard.EdgeShard.flush

    def counted(shard: edge_shard.EdgeShard) -> None:
        flushed.append(1)
        flush(shard)

    monkeypatch.setattr(edge_shard, "POINTS_PER_FLUSH", 100)
    monkeypatch.setattr(edge_shard.EdgeShard, "flush", counted)
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    for start in range(0, 400, 40):
        index.upsert(points(start, start + 40))
        index.flush()
    assert len(flushed) == 3
    index.close()


def test_answers_stay_exact_through_an_optimisation_with_writes_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = FakeIndex("m1", DIMENSION)
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=400)

    def both(change: Callable[[EdgeIndex | FakeIndex], None]) -> None:
        change(index)
        change(oracle)

    def writing_meanwhile(copy: Path, stopping: Event) -> bool:
        both(lambda store: store.upsert(points(300, 1_200, seed=5, fields={"charge": 2, "metadata.new number": 7})))
        outcome = edge_optimiser.optimise(copy, stopping)
        both(lambda store: store.delete([uuid.UUID(int=i) for i in range(100)]))
        both(lambda store: store.upsert(points(1_200, 1_300, library="two")))
        both(lambda store: store.delete_library("two"))
        assert_same_answers(index, oracle)
        return outcome

    monkeypatch.setattr(edge_index, "optimise", writing_meanwhile)
    try:
        both(lambda store: store.upsert(points(0, 399)))
        assert index.running_optimisation() is None
        both(lambda store: store.upsert(points(399, 500)))
        running = index.running_optimisation()
        assert running is not None
        running.join()
        assert_same_answers(index, oracle)
        query = [points(0, 1)[0].vectors[Leg.MOLECULES]]
        assert len(index.search(Leg.MOLECULES, query, 2_000, None, Condition("metadata.new number", "=", 7))[0]) == 900
        both(lambda store: store.upsert(points(0, 10, seed=3)))
        assert_same_answers(index, oracle)
    finally:
        index.close()
    assert graphs(folder) >= 500
    reopened = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=5_000)
    try:
        assert_same_answers(reopened, oracle)
    finally:
        reopened.close()


def test_searches_go_on_while_shards_are_swapped(folder: Path) -> None:
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=300)
    stored = points(0, 300)
    failures: list[BaseException] = []
    done = Event()

    def search() -> None:
        try:
            while not done.is_set():
                [[hit]] = index.search(Leg.MOLECULES, [stored[7].vectors[Leg.MOLECULES]], 1)
                assert hit.id == stored[7].id
                index.flush()
                done.wait(0.002)
        except BaseException as error:
            failures.append(error)

    try:
        index.upsert(stored[:200])
        reader = threading.Thread(target=search)
        reader.start()
        for _ in range(2):
            index.upsert(stored)
            index.upsert(stored)
            running = index.running_optimisation()
            assert running is not None
            running.join()
        done.set()
        reader.join()
        assert failures == []
        assert index.count() == 300
    finally:
        done.set()
        index.close()


def test_a_search_that_finds_its_shard_replaced_asks_the_new_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=300)
    search = edge_shard.EdgeShard.search
    asked: list[Path] = []

    def late(shard: edge_shard.EdgeShard, *values: object) -> object:
        asked.append(shard.folder)
        if running := index.running_optimisation():
            running.join()
        return search(shard, *values)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(edge_shard.EdgeShard, "search", late)
    try:
        index.upsert(points(0, 300))
        [[hit]] = index.search(Leg.MOLECULES, [points(7, 8)[0].vectors[Leg.MOLECULES]], 1)
        assert len(set(asked)) == 2
        assert hit.score == pytest.approx(1, abs=1e-3)
    finally:
        index.close()


def test_a_restart_remembers_that_an_optimisation_is_due(folder: Path) -> None:
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=10_000)
    index.upsert(points(0, 400))
    index.close()
    assert graphs(folder) == 0
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=300)
    running = index.running_optimisation()
    assert running is not None
    running.join()
    index.close()
    assert graphs(folder) > 0
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=300)
    assert index.running_optimisation() is None
    index.close()


@pytest.mark.parametrize("moment", ["copied", "optimised", "named"])
def test_a_crash_during_an_optimisation_loses_nothing(folder: Path, moment: str) -> None:
    script = f"""
import os, pathlib, signal, sys
sys.path.insert(0, ".")
from server.adapters import edge_folder, edge_index, edge_optimiser
from tests.integration.test_edge_index import points
def die(): os.kill(os.getpid(), signal.SIGKILL)
def optimise(folder, stopping):
    if {moment == "copied"}: die()
    edge_optimiser.optimise(folder, stopping)
    index.upsert(points(400, 450)); index.flush()
    if {moment == "optimised"}: die()
    write = edge_folder.IndexFolder.write
    edge_folder.IndexFolder.write = lambda *values: (write(*values), die())
    return True
edge_index.optimise = optimise
index = edge_index.EdgeIndex.open(pathlib.Path(sys.argv[1]), "m1", 16, optimise_points=300)
index.upsert(points(0, 200)); index.flush()
index.upsert(points(200, 400)); index.flush()
index.running_optimisation().join()
"""
    outcome = run(script, folder)
    assert outcome.returncode == -signal.SIGKILL, outcome.stderr
    assert len(list((folder / "shards").iterdir())) == 2
    oracle = FakeIndex("m1", DIMENSION)
    oracle.upsert(points(0, 400 if moment == "copied" else 450))
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    try:
        assert len(list((folder / "shards").iterdir())) == 1
        assert_same_answers(index, oracle)
    finally:
        index.close()


def test_a_failed_optimisation_leaves_the_index_as_it_was_and_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[Path] = []

    def failing(copy: Path, stopping: Event) -> bool:
        attempts.append(copy)
        raise RuntimeError("on purpose")

    monkeypatch.setattr(edge_index, "optimise", failing)
    oracle = FakeIndex("m1", DIMENSION)
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=300)
    try:
        for start in (0, 300, 600):
            index.upsert(points(start, start + 300))
            oracle.upsert(points(start, start + 300))
            running = index.running_optimisation()
            if running:
                running.join()
        assert len(attempts) == 3
        assert not any(copy.exists() for copy in attempts)
        assert_same_answers(index, oracle)
    finally:
        index.close()


def test_nothing_is_copied_to_a_disk_that_is_nearly_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_index, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=300)
    index.upsert(points(0, 300))
    running = index.running_optimisation()
    if running:
        running.join()
    assert len(list((folder / "shards").iterdir())) == 1
    assert index.count() == 300
    index.close()
    assert graphs(folder) == 0


def test_closing_ends_a_running_optimisation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Event()

    def endless(copy: Path, stopping: Event) -> bool:
        started.set()
        assert stopping.wait(60)
        return False

    monkeypatch.setattr(edge_index, "optimise", endless)
    index = EdgeIndex.open(folder, "m1", DIMENSION, optimise_points=300)
    index.upsert(points(0, 300))
    assert started.wait(60)
    index.close()
    assert len(list((folder / "shards").iterdir())) == 1
    reopened = EdgeIndex.open(folder, "m1", DIMENSION)
    assert reopened.count() == 300
    reopened.close()


def test_the_optimiser_can_be_stopped_and_says_why_it_failed(folder: Path) -> None:
    shard = edge_shard.EdgeShard.create(folder, DIMENSION, 0, 100)
    shard.close()
    stopping = Event()
    stopping.set()
    assert edge_optimiser.optimise(folder, stopping) is False
    with pytest.raises(RuntimeError, match=r"(?s)optimiser ended with 1.*does not exist"):
        edge_optimiser.optimise(folder / "nothing here", Event())


def test_the_optimiser_does_not_outlive_its_parent(folder: Path) -> None:
    command = [sys.executable, "-m", "server.adapters.edge_optimiser", str(folder), "1"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode != 0
    assert "the parent is gone" in outcome.stderr


def test_numbers_of_very_many_names_are_found_though_only_some_are_indexed(folder: Path) -> None:
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    try:
        names = [f"metadata.column {i}" for i in range(MAX_METADATA_INDEXES + 20)]
        index.upsert(points(0, 5, fields=dict.fromkeys(names, 1.5)))
        query = [points(0, 1)[0].vectors[Leg.MOLECULES]]
        for name in (names[0], names[-1]):
            assert len(index.search(Leg.MOLECULES, query, 10, None, Condition(name, ">", 1))[0]) == 5
            assert index.search(Leg.MOLECULES, query, 10, None, Condition(name, ">", 2)) == [[]]
    finally:
        index.close()
    [shard_folder] = (folder / "shards").iterdir()
    shard = qdrant_edge.EdgeShard.load(str(shard_folder))
    indexed = [path for path in shard.info().payload_schema if path.startswith(f"{NUMBERS}.metadata")]
    shard.close()
    assert len(indexed) == MAX_METADATA_INDEXES


def test_a_half_created_index_is_created_anew(folder: Path) -> None:
    place = IndexFolder(folder)
    edge_shard.EdgeShard.create(place.shard("half"), DIMENSION, 0, 100).close()
    place.close()
    index = EdgeIndex.open(folder, "m1", DIMENSION)
    assert index.count() == 0
    assert not place.shard("half").exists()
    index.close()


def test_fragments_are_compared_alike_before_and_after_an_optimisation_and_get_no_graph_and_no_copy(folder: Path) -> None:
    oracle = FakeIndex("m1", DIMENSION, 8)
    index = EdgeIndex.open(folder, "m1", DIMENSION, fragment_dimension=8, optimise_points=300)
    random = np.random.default_rng(4)
    stored = [
        replace(point, fragments=random.standard_normal((1 + number % 4, 8)).astype(np.float32))
        for number, point in enumerate(points(0, 400))
    ]
    asked = [(Parts(random.standard_normal((3, 8)).astype(np.float32), np.array([0.2, 0.3, 0.5], np.float32)), [p.id for p in stored[::4]])]
    try:
        for store in (index, oracle):
            store.upsert(stored[:250])
        before = index.align(asked)
        for store in (index, oracle):
            store.upsert(stored[250:])
        running = index.running_optimisation()
        assert running is not None
        running.join()
        [expected], [found] = oracle.align(asked), index.align(asked)
        assert found == pytest.approx(expected, abs=0.02)
        assert {id: found[id] for id in before[0]} == pytest.approx(before[0], abs=1e-6)
    finally:
        index.close()
    assert graphs(folder) >= 400
    about_fragments = [path for path in folder.rglob("*") if path.is_file() and "fragments" in str(path)]
    assert about_fragments
    assert not [path for path in about_fragments if "quantized" in path.name]
    # Links of a graph of a hundred points and more take more than a block.
    assert all(path.stat().st_size < 4_096 for path in about_fragments if "vector_index" in str(path))
