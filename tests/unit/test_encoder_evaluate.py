"""Retrieval evaluation: the protocol's pool and ranks, from files and from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from encoder.__main__ import main
from encoder.checkpoint import save_checkpoint
from encoder.inference import Encoder
from encoder.training.dataset import DatasetError
from encoder.training.evaluate import evaluate_retrieval, read_retrieval_task
from tests.encoder_models import sample_features, small_checkpoint, small_model

PAIRS = [("1", "OCC", "an alcohol"), ("2", "CC(O)=O", "an acid"), ("3", "C1=CC=CC=C1", "an aromatic ring")]
CANDIDATES = ["CCO", "c1ccccc1", "CCN", "NCC", "C[C@H](N)C(=O)O"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("cid\tsmiles\tdescription\n" + "".join("\t".join(row) + "\n" for row in PAIRS))
    return path


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    path = tmp_path / "candidates.tsv"
    path.write_text("smiles\n" + "".join(f"{smiles}\n" for smiles in CANDIDATES))
    return path


def test_the_pool_holds_each_molecule_once_however_it_is_spelt(pairs: Path, candidates: Path) -> None:
    task = read_retrieval_task(pairs, [candidates])
    assert task.pool == ["CCO", "CC(=O)O", "c1ccccc1", "CCN", "C[C@H](N)C(=O)O"]
    assert task.targets.tolist() == [0, 1, 2]
    assert task.texts == ["an alcohol", "an acid", "an aromatic ring"]


def test_scores_are_those_of_ranks_counted_by_hand(pairs: Path, candidates: Path) -> None:
    encoder, task = Encoder(small_checkpoint()), read_retrieval_task(pairs, [candidates])
    results = evaluate_retrieval(encoder, task, report=lambda line: None)
    cosines = encoder.encode_texts(task.texts) @ encoder.encode_molecules(task.pool).T
    by_hand = np.array([1 + sum(other > row[target] for other in row) for target, row in enumerate(cosines)])
    backwards = np.array([1 + sum(other > column[target] for other in column) for target, column in enumerate(cosines[:, :3].T)])
    assert results["text_to_molecule"]["mrr"] == pytest.approx((1 / by_hand).mean())
    assert results["text_to_molecule"]["hits@1"] == pytest.approx((by_hand == 1).mean())
    assert results["molecule_to_text"]["mean_rank"] == pytest.approx(backwards.mean())
    assert results["among_pairs"]["mean_rank"] <= results["text_to_molecule"]["mean_rank"]
    assert results["random_spelling"]["median_cosine"] > 0.99
    assert results["pool"] == 5


def test_the_command_prints_one_json_document(pairs: Path, candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = save_checkpoint(tmp_path / "model", small_model(), *sample_features())
    arguments = ["--pairs", str(pairs), "--candidates", str(candidates), "--model", str(tmp_path / "model"), "--threads", "1", "--json"]
    assert main(["evaluate", "retrieval", *arguments]) == 0
    results = json.loads(capsys.readouterr().out)
    assert next(iter(results)) == "text_to_molecule"
    assert set(results["text_to_molecule"]) == {"mean_rank", "mrr", "hits@1", "hits@10"}
    assert (results["pool"], results["model"]) == (5, version)


def test_the_command_prints_a_line_for_each_score(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "model", small_model(), *sample_features())
    assert main(["evaluate", "retrieval", "--pairs", str(pairs), "--model", str(tmp_path / "model"), "--threads", "1"]) == 0
    assert capsys.readouterr().out.startswith("text_to_molecule: mean_rank")


def test_a_molecule_that_cannot_be_read_is_named(pairs: Path) -> None:
    pairs.write_text(pairs.read_text() + "4\tC1CC\ta broken ring\n")
    with pytest.raises(DatasetError, match="C1CC"):
        read_retrieval_task(pairs, [])


def test_a_file_without_descriptions_is_named(pairs: Path) -> None:
    pairs.write_text("cid\tsmiles\tdescription\n")
    with pytest.raises(DatasetError, match="holds no description"):
        read_retrieval_task(pairs, [])


def test_a_missing_checkpoint_is_one_clear_line(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "retrieval", "--pairs", str(pairs), "--model", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
