"""The scaling plan: fresh in its document, and right where it can be worked out by hand."""

import json
from dataclasses import replace

import pytest

from benchmarks.scaling import DOCUMENT, MEASURED, Assumptions, amount, count, per_compound, plan, transformer_flops, written

BY_HAND = {
    "processor": {"chemistry_milliseconds": 3.6, "encode_molecule_milliseconds": 0.36, "molecule_tokens": 50.0},
    "broker": {"redis_waiting_compound": 2.0},
    "structures": {
        "compounds": 10,
        "sqlite": {"compounds": 900.0},
        "structure_keeper_disk": 1000.0,
        "postgresql": {"compounds": 800.0, "index_entries": 200.0},
        "index_on_disk": {"vector_storage-molecules": 1024.0, "vector_storage-molecules int8": 260.0, "vector_index-molecules": 140.0},
    },
}


def test_the_documents_tables_are_fresh() -> None:
    document = DOCUMENT.read_text()
    assert written(document, json.loads(MEASURED.read_text())) == document, "run: python -m benchmarks.scaling --write"


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table run"):
        written("# Scaling", json.loads(MEASURED.read_text()))


def test_a_million_by_hand() -> None:
    assumed = replace(Assumptions(), replicas=2, index_disk_headroom=1.5, database_headroom=2.0, graph_milliseconds=1.8, import_days=1.0)
    planned = plan(1_000_000, BY_HAND, assumed)
    assert planned.database_bytes == pytest.approx(2e9)
    assert planned.index_disk_bytes == pytest.approx(1424e6 * 2 * 1.5)
    assert planned.index_memory_bytes == pytest.approx(400e6 * 2)
    assert planned.keeper_disk_bytes == pytest.approx(1e9)
    assert planned.waiting_jobs_bytes == pytest.approx(2e6)
    assert planned.chemistry_core_hours == pytest.approx(1.0)
    assert planned.encoding_core_hours == pytest.approx(0.1)
    assert planned.graph_core_hours == pytest.approx(1.0)
    assert (planned.import_cores, planned.index_nodes, planned.databases) == (1, 2, 1)


def test_index_nodes_follow_what_is_short() -> None:
    small_memory = plan(10**9, BY_HAND, replace(Assumptions(), index_node_memory_gb=64, index_node_disk_tb=1000.0))
    small_disk = plan(10**9, BY_HAND, replace(Assumptions(), index_node_memory_gb=10_000, index_node_disk_tb=1.0))
    assert (small_memory.index_bound_by, small_disk.index_bound_by) == ("memory", "disk")
    # 400 bytes twice for each of a billion, in nodes of 48 usable GB.
    assert small_memory.index_nodes == 17


def test_only_the_hot_part_must_be_in_memory() -> None:
    assert per_compound(BY_HAND["structures"])["index, hot part"] == 400.0  # type: ignore[arg-type]


def test_a_transformers_operations_are_twice_its_weights_for_each_token() -> None:
    assumed = replace(Assumptions(), transformer_layers=12, transformer_width=768)
    weights = 12 * 12 * 768**2
    assert transformer_flops(1.0, assumed) == pytest.approx(2 * weights, rel=1e-3)
    assert transformer_flops(100.0, assumed) > 100 * transformer_flops(1.0, assumed)


@pytest.mark.parametrize(("size", "said"), [(999, "999 B"), (1.5e9, "1.5 GB"), (2e12, "2 TB"), (1.234e15, "1.23 PB")])
def test_sizes_are_written_for_people(size: float, said: str) -> None:
    assert amount(size) == said


@pytest.mark.parametrize(("compounds", "said"), [(500, "500"), (10_000_000, "10 million"), (1_500_000_000, "1.5 billion")])
def test_numbers_of_compounds_are_written_for_people(compounds: int, said: str) -> None:
    assert count(compounds) == said
