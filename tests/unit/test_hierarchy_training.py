"""Training of the hierarchy: it learns, the encoder stands still, and a killed run ends like a whole one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from encoder.checkpoint import load_checkpoint, save_checkpoint
from encoder.training.dataset import DatasetError
from encoder.training.hierarchy import HierarchySchedule, HierarchyTrainer, train_hierarchy
from encoder.training.loop import TrainingSet
from encoder.training.recipes import RECIPES, read_training_set
from tests.encoder_models import SAMPLE, sample_features, small_model

BRIEF = HierarchySchedule(epochs=2, batch=32, group=4, width=16, judged_queries=40, judged_candidates=20)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    return read_training_set(RECIPES["tiny"](), SAMPLE)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    save_checkpoint(folder, small_model(layers=0), *sample_features(), table_bits=4)
    return folder


def test_the_hierarchy_learns_and_the_encoder_stands_still(start: Path, data: TrainingSet, tmp_path: Path) -> None:
    history = train_hierarchy(start, data, BRIEF, tmp_path, lambda line: None)
    for level in range(3):
        assert history[-1][f"loss_{level}"] < history[0][f"loss_{level}"]
    before, after = (load_file(folder / "weights.safetensors") for folder in (start, tmp_path / "checkpoint"))
    assert set(after) > set(before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    extended = load_checkpoint(tmp_path / "checkpoint")
    assert extended.model.hierarchy is not None
    assert extended.version != load_checkpoint(start).version


def test_a_run_in_two_pieces_ends_like_one(start: Path, data: TrainingSet, tmp_path: Path) -> None:
    checkpoint, little = load_checkpoint(start), replace(data, pairs=data.pairs[::4])
    state, silent = tmp_path / "state.safetensors", lambda line: None
    whole = HierarchyTrainer(checkpoint, little, BRIEF, silent).run(tmp_path / "whole.safetensors")
    first = HierarchyTrainer(checkpoint, little, BRIEF, silent)
    first.schedule = replace(BRIEF, epochs=2)
    first._run_epoch()
    first.epoch, first.history = 1, [whole[0]]
    first._save(state)
    assert HierarchyTrainer(checkpoint, little, BRIEF, silent).run(state)[-1] == whole[-1]


def test_a_state_of_another_encoder_is_refused(start: Path, data: TrainingSet, tmp_path: Path) -> None:
    little, silent = replace(data, pairs=data.pairs[::8]), lambda line: None
    brief = replace(BRIEF, epochs=1)
    HierarchyTrainer(load_checkpoint(start), little, brief, silent).run(tmp_path / "state.safetensors")
    save_checkpoint(tmp_path / "other", small_model(layers=0, seed=1), *sample_features(), table_bits=4)
    with pytest.raises(DatasetError, match="hierarchy of encoder"):
        HierarchyTrainer(load_checkpoint(tmp_path / "other"), little, brief, silent).run(tmp_path / "state.safetensors")
