"""Training: what may be learnt from, that it learns, and that a killed run ends like an uninterrupted one."""

import gzip
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.__main__ import main
from encoder.features import TokenFeatures
from encoder.training.dataset import (
    DatasetError,
    Pair,
    inchikey_of,
    read_descriptions,
    read_molecules,
    read_pairs,
    similar_batches,
    vary_text,
)
from encoder.training.items import Bags, Tokens
from encoder.training.loop import Schedule, TrainingSet, Validation
from encoder.training.recipes import BENCHMARK, RECIPES, Recipe, read_training_set, train
from encoder.training.resuming import learning_rate
from encoder.training.sparse import TableAdam
from tests.encoder_models import SAMPLE, sample_features, sample_pairs

ETHANOL: dict[str, Any] = {"smiles": "CCO", "inchikey": "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", "text": "an alcohol", "noncommercial": False}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    return read_training_set(RECIPES["tiny"](), SAMPLE)


@pytest.fixture(scope="module")
def little(data: TrainingSet) -> TrainingSet:
    return TrainingSet(data.pairs[::5], data.distractors[:10], Validation(data.validation.texts[:20], data.validation.pool[:20]))


def _briefly(recipe: Recipe, epochs: int = 1, **model: int) -> Recipe:
    return replace(recipe, model={**recipe.model, **model}, schedule=replace(recipe.schedule, epochs=epochs))


def _write(folder: Path, *rows: object) -> Path:
    (folder / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_pairs_are_read_with_their_kind(tmp_path: Path) -> None:
    pairs = read_pairs(_write(tmp_path, ETHANOL), ["made"], frozenset())
    assert pairs == [Pair("CCO", ETHANOL["inchikey"], "an alcohol", "made")]


def test_an_evaluation_molecule_among_the_pairs_is_an_error(tmp_path: Path) -> None:
    folder = _write(tmp_path, {**ETHANOL, "smiles": "CO", "inchikey": "OKKJLVBELUTLKV-UHFFFAOYSA-N"}, ETHANOL)
    with pytest.raises(DatasetError, match=r"line 2: LFQSCWFLJHTTHZ.*must not be trained on"):
        read_pairs(folder, ["made"], frozenset([inchikey_of("OCC")]))


def test_no_benchmark_molecule_gets_into_a_training_set(tmp_path: Path) -> None:
    query = read_descriptions(BENCHMARK / "validation.tsv")[7]
    _write(tmp_path, {**ETHANOL, "smiles": query.smiles, "inchikey": inchikey_of(query.smiles)})
    with pytest.raises(DatasetError, match="evaluation set"):
        read_training_set(replace(RECIPES["tiny"](), kinds=("made",)), tmp_path)


def test_noncommercial_rows_are_left_out_unless_allowed(tmp_path: Path) -> None:
    folder = _write(tmp_path, ETHANOL, {**ETHANOL, "text": "bought", "noncommercial": True})
    assert [pair.text for pair in read_pairs(folder, ["made"], frozenset())] == ["an alcohol"]
    assert len(read_pairs(folder, ["made"], frozenset(), allow_noncommercial=True)) == 2


@pytest.mark.parametrize("line", ["{", '{"smiles": "C"}', "[]", "3"])
def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    path = _write(tmp_path, ETHANOL) / "made.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DatasetError, match=r"made\.jsonl, line 2"):
        read_pairs(tmp_path, ["made"], frozenset())


def test_missing_damaged_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no nothing\.jsonl\.gz"):
        read_pairs(tmp_path, ["nothing"], frozenset())
    whole = gzip.compress(json.dumps(ETHANOL).encode() * 500)
    (tmp_path / "torn.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"torn\.jsonl\.gz"):
        read_pairs(tmp_path, ["torn"], frozenset())
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DatasetError, match="no usable pair"):
        read_pairs(tmp_path, ["empty"], frozenset())
    with pytest.raises(DatasetError, match="cannot be read"):
        read_molecules(tmp_path / "gone.tsv")


def test_a_table_without_its_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("cid\tsmiles\n1\tCCO\n")
    with pytest.raises(DatasetError, match="no column description"):
        read_descriptions(path)
    path.write_text("cid\tsmiles\tdescription\n1\tCCO\n")
    with pytest.raises(DatasetError, match="line 2: too few columns"):
        read_descriptions(path)


def test_an_unreadable_molecule_is_named() -> None:
    with pytest.raises(DatasetError, match="C1CC"):
        inchikey_of("C1CC")


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1), min_size=1, max_size=6), st.integers(0, 1000))
def test_varied_names_are_some_of_the_names(names: list[str], seed: int) -> None:
    shown = vary_text(Pair("C", "K", "; ".join(names), "names"), [], np.random.default_rng(seed)).split("; ")
    assert 1 <= len(shown) <= len(names)
    assert all(shown.count(name) <= names.count(name) for name in shown)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_varied_texts_are_never_empty_and_hold_only_texts_of_the_molecule(seed: int) -> None:
    pair, sibling = Pair("C", "K", "It is red. It is sweet. It is old", "description"), "a sibling"
    shown = vary_text(pair, [sibling], np.random.default_rng(seed))
    rest = shown.replace(sibling, "").strip()
    assert rest
    assert all(sentence in pair.text for sentence in rest.split(". "))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 20), st.integers(0, 100))
def test_batches_hold_every_row_once(rows: int, batch: int, group: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    batches = similar_batches(vectors, batch, group, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert all(len(found) == batch for found in batches[:-1])


def test_grouped_batches_hold_alike_rows() -> None:
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(64, 8)), 16, axis=0)
    vectors = (centres + 0.01 * generator.normal(size=centres.shape)).astype(np.float32)
    cluster = np.arange(len(vectors)) // 16

    def neighbours(group: int) -> float:
        return float(np.mean([(cluster[rows][:, None] == cluster[rows]).mean() for rows in similar_batches(vectors, 64, group, generator)]))

    assert neighbours(16) > 2 * neighbours(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 15))
def test_sparse_sums_have_the_gradient_of_the_dense_product(seed: int, rows: int, table_rows: int) -> None:
    torch.manual_seed(seed)
    matrix = sp.random(rows, table_rows, density=0.3, random_state=seed, dtype=np.float32).tocsr()
    table = torch.randn(table_rows, 4)
    dense = table.clone().requires_grad_()
    weights = torch.randn(rows, 4)
    expected = torch.from_numpy(matrix.toarray()) @ dense
    (expected * weights).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    optimiser = TableAdam(table.clone(), betas=(0.0, 0.0), epsilon=0.0)
    found = optimiser.look_up(matrix)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)
    (found * weights).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    optimiser.step(1.0)
    # Without memory Adam moves by the sign of the gradient.
    assert dense.grad is not None
    touched = dense.grad.abs() > 1e-5
    torch.testing.assert_close((table - optimiser.table_ND)[touched], dense.grad.sign()[touched], atol=1e-4, rtol=1e-4)


def test_table_adam_is_adam_where_every_row_is_used() -> None:
    torch.manual_seed(0)
    table, matrix = torch.randn(5, 3), sp.csr_matrix(np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32))
    dense = torch.nn.Parameter(table.clone())
    reference, optimiser = torch.optim.Adam([dense], lr=0.1), TableAdam(table)
    for step in range(5):
        target = torch.full((4, 3), float(step))
        reference.zero_grad()
        (torch.from_numpy(matrix.toarray()) @ dense - target).square().sum().backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        reference.step()
        (optimiser.look_up(matrix) - target).square().sum().backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        optimiser.step(0.1)
    torch.testing.assert_close(table, dense.detach(), atol=1e-4, rtol=1e-4)


def test_rows_that_a_batch_does_not_use_stand_still() -> None:
    table = torch.randn(6, 3)
    before, optimiser = table.clone(), TableAdam(table)
    optimiser.look_up(sp.csr_matrix(([1.0], ([0], [2])), shape=(1, 6), dtype=np.float32)).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    optimiser.step(0.1)
    assert [not torch.equal(old, new) for old, new in zip(before, table, strict=True)] == [False, False, True, False, False, False]


def test_a_step_without_a_look_up_is_refused() -> None:
    with pytest.raises(RuntimeError, match="look_up"):
        TableAdam(torch.zeros(1, 1)).step(0.1)


@pytest.mark.parametrize("modality", ["text", "molecule"])
def test_token_batches_sum_up_to_the_bags(modality: str) -> None:
    features, items = _features(modality)
    rows = np.array([5, 0, 5, 11])
    bags, tokens = Bags(items, features).select(rows), Tokens(items, features).select(rows)
    assert tokens.mass is not None
    assert tokens.token_counts is not None
    item = np.repeat(np.arange(len(rows)), tokens.token_counts)
    pooled = sp.csr_matrix((tokens.mass, (item, np.arange(len(item)))), shape=(len(rows), len(item))) @ tokens.matrix
    np.testing.assert_allclose(pooled.toarray(), bags.matrix.toarray(), atol=1e-5)


def test_feature_dropout_hides_a_share_and_keeps_the_sum() -> None:
    features, items = _features("text")
    rows = np.arange(len(items.token_counts))
    whole, dropped = (Bags(items, features).select(rows, share, np.random.default_rng(0)).matrix for share in (0.0, 0.5))
    assert 0.4 < dropped.nnz / whole.nnz < 0.6
    assert dropped.sum() == pytest.approx(whole.sum(), rel=0.1)


def _features(modality: str) -> tuple[int, TokenFeatures]:
    texts, molecules = sample_features()
    pairs = sample_pairs()[:40]
    if modality == "text":
        return texts.rows, texts([pair.text for pair in pairs])
    return molecules.rows, molecules([pair.smiles for pair in pairs])


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(Schedule(epochs=1), progress) for progress in np.linspace(0, 1, 101)]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(2e-3)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(2e-5)


@pytest.mark.parametrize("layers", [0, 1])
def test_a_run_learns(tmp_path: Path, layers: int, data: TrainingSet) -> None:
    lines: list[str] = []
    history = train(_briefly(RECIPES["tiny"](), 4, layers=layers), data, tmp_path, lines.append)
    # Soft targets keep the loss above zero; how far it falls says less than the ranks do.
    assert history[-1]["loss"] < history[0]["loss"]
    # By chance the mean rank in a pool of 150 is 75.
    assert history[-1]["mean_rank"] < 50
    assert (tmp_path / "checkpoint" / "model.json").exists()
    assert "mrr" in lines[-2]


def test_a_run_killed_between_epochs_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "encoder", "train", "tiny", "--threads", "1", "--data", str(SAMPLE), "--out"]
    first = subprocess.Popen([*command, str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (killed / "state.safetensors").exists():
        assert first.poll() is None
        time.sleep(0.002)
    first.kill()
    first.wait()
    assert not (killed / "checkpoint").exists()
    subprocess.run([*command, str(whole)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    second = subprocess.run([*command, str(killed)], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "continues after epoch" in second.stdout
    for name in ("state.safetensors", "checkpoint/weights.safetensors", "checkpoint/model.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def test_a_transformer_starts_as_the_bag_it_grows_from(tmp_path: Path, little: TrainingSet) -> None:
    recipe = RECIPES["tiny"]()
    bag = train(_briefly(recipe, layers=0), little, tmp_path / "bag", lambda line: None)
    schedule = replace(recipe.schedule, epochs=1, learning_rate=0.0)
    grown = train(replace(recipe, schedule=schedule), little, tmp_path / "grown", lambda line: None, start=tmp_path / "bag")
    assert {**grown[-1], "loss": 0.0} == pytest.approx({**bag[-1], "loss": 0.0})


def test_a_start_that_does_not_fit_is_refused(tmp_path: Path, little: TrainingSet) -> None:
    recipe = RECIPES["tiny"]()
    train(_briefly(recipe, head_width=16), little, tmp_path / "other", lambda line: None)
    for start, reason in (("other", "does not fit"), ("nowhere", "does not exist")):
        with pytest.raises(DatasetError, match=reason):
            train(recipe, little, tmp_path / "run", lambda line: None, start=tmp_path / start)


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path, little: TrainingSet) -> None:
    recipe = RECIPES["tiny"]()
    train(_briefly(recipe), little, tmp_path, lambda line: None)
    with pytest.raises(DatasetError, match="another recipe"):
        train(recipe, little, tmp_path)


def test_a_state_of_another_model_is_refused(tmp_path: Path, little: TrainingSet) -> None:
    recipe = RECIPES["tiny"]()
    train(_briefly(recipe), little, tmp_path, lambda line: None)
    wider = replace(recipe, model={**recipe.model, "head_width": 16})
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(DatasetError, match="belongs to another recipe"):
        train(wider, little, tmp_path)


def test_the_command_names_unusable_data_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "ATOMAS_TRAINING_DATA" in error
    assert error.count("\n") == 1
