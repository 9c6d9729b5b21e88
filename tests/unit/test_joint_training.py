"""The hierarchy learnt together with the vectors: which pairs take part, where the gradient goes, and that such a run learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.inference import Encoder
from encoder.model.config import MODALITIES
from encoder.training.items import Bags, Tokens
from encoder.training.joint import JointAlignment, level_losses
from encoder.training.loop import TrainingSet
from encoder.training.recipes import RECIPES, read_training_set, train
from encoder.training.sparse import TableAdam
from tests.encoder_models import SAMPLE, sample_features, sample_pairs, small_model

PAIRS = sample_pairs()[:40]
ROWS = np.arange(len(PAIRS))


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    return read_training_set(RECIPES["tiny"](), SAMPLE)


def _tokens() -> dict[str, Tokens]:
    text_features, molecule_features = sample_features()
    return {
        "text": Tokens(text_features([pair.text for pair in PAIRS]), text_features.rows),
        "molecule": Tokens(molecule_features([pair.smiles for pair in PAIRS]), molecule_features.rows),
    }


def test_names_and_a_single_pair_are_not_aligned() -> None:
    tokens, generator = _tokens(), np.random.default_rng(0)
    mixed = [replace(pair, kind="names" if row % 2 else "description") for row, pair in enumerate(PAIRS)]
    chosen = JointAlignment(mixed, tokens["molecule"], ROWS, 8).choose(tokens["text"], ROWS, 0.0, generator)
    assert chosen is not None
    assert len(chosen.rows) == 8
    assert not (chosen.rows % 2).any()
    assert JointAlignment(mixed, tokens["molecule"], ROWS, 8).choose(tokens["text"], ROWS[:2], 0.0, generator) is None


def test_the_levels_move_table_rows_and_the_hierarchy() -> None:
    tokens = _tokens()
    model = small_model(layers=0, hierarchy_width=16)
    model.requires_grad_(True)
    chosen = JointAlignment(PAIRS, tokens["molecule"], ROWS, 12).choose(tokens["text"], ROWS, 0.0, np.random.default_rng(0))
    assert chosen is not None
    text_features, molecule_features = sample_features()
    bags = {
        "text": Bags(text_features([pair.text for pair in PAIRS]), text_features.rows).select(ROWS),
        "molecule": Bags(molecule_features([pair.smiles for pair in PAIRS]), molecule_features.rows).select(ROWS),
    }
    tables = {modality: TableAdam(model.tower(modality).table.data) for modality in MODALITIES}
    before = {modality: table.table_ND.clone() for modality, table in tables.items()}
    sums = {modality: tables[modality].look_up(chosen.beside(bags[modality], modality))[len(ROWS) :] for modality in MODALITIES}
    assert {modality: len(sums[modality]) for modality in MODALITIES} == {m: chosen.items[m].token_counts.sum() for m in MODALITIES}  # type: ignore[union-attr]
    keys = torch.from_numpy(chosen.rows)
    loss = level_losses(model, sums, chosen, keys, keys)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    for table in tables.values():
        table.step(1e-3)
    for modality in MODALITIES:
        moved = (tables[modality].table_ND != before[modality]).any(1).sum().item()
        assert 0 < moved < len(before[modality])
    assert model.hierarchy is not None
    assert all(weights.grad is not None for weights in model.hierarchy.narrow.parameters())


def test_a_run_learns_both(tmp_path: Path, data: TrainingSet) -> None:
    recipe = RECIPES["tiny"]()
    schedule = replace(recipe.schedule, aligned=8, epochs=4)
    together = replace(recipe, schedule=schedule, model={**recipe.model, "layers": 0, "hierarchy_width": 16})
    history = train(together, data, tmp_path, lambda line: None)
    assert history[-1]["loss"] < history[0]["loss"]
    # By chance the mean rank in a pool of 150 is 75.
    assert history[-1]["mean_rank"] < 60
    encoder = Encoder.load(tmp_path / "checkpoint", 1)
    [(vector, phrases)] = encoder.texts_and_phrases(["a carboxylic acid with a hydroxy group"])
    assert len(vector) == 32
    assert len(phrases.weights_K) > 1
