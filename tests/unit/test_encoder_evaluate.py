"""Retrieval evaluation: the protocol's pool and ranks, from files and from the command line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.__main__ import main
from encoder.checkpoint import Checkpoint, save_checkpoint
from encoder.inference import Encoder
from encoder.model.atomas import TokenBatch
from encoder.training.dataset import DatasetError
from encoder.training.evaluate import evaluate_retrieval, read_retrieval_task
from encoder.training.rerank import WEIGHTS
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
    assert results["among_pairs"]["molecule_to_text"] == results["molecule_to_text"]
    # Through the door a spelling makes no difference; before it there is one, for the layers read positions.
    assert {**results["random_spelling"], "molecule_to_text": None} == {**results["text_to_molecule"], "molecule_to_text": None}
    assert results["raw_spelling"]["median_cosine"] > 0.9
    assert results["reranked"] is None
    assert "hierarchy" in results["reranked_missing"]
    assert results["pool"] == 5


def test_the_hierarchy_orders_the_first_candidates_again(pairs: Path, candidates: Path) -> None:
    checkpoint = small_checkpoint(hierarchy_width=16)
    encoder, task = Encoder(checkpoint), read_retrieval_task(pairs, [candidates])
    texts, pool = encoder.encode_texts(task.texts), encoder.encode_molecules(task.pool)
    results = evaluate_retrieval(encoder, task, report=lambda line: None)["reranked"]
    assert checkpoint.model.hierarchy is not None
    aligned = np.empty((len(task.texts), len(task.pool)))
    for row, text in enumerate(task.texts):
        for column, smiles in enumerate(task.pool):
            aligned[row, column] = _alignment_by_hand(checkpoint, text, smiles)
    # Two texts choose the weight of the third, which chooses theirs; all five molecules are among the first hundred.
    by_weight = {w: [_rank_by_hand(r, t) for r, t in zip(texts @ pool.T + w * aligned, task.targets, strict=True)] for w in WEIGHTS}

    def best(rows: list[int]) -> float:
        return max(WEIGHTS, key=lambda weight: sum(1 / by_weight[weight][row] for row in rows))

    ranks = [by_weight[best([1])][0], by_weight[best([0, 2])][1], by_weight[best([1])][2]]
    assert results["weights"] == [best([1]), best([0, 2])]
    assert results["mean_rank"] == pytest.approx(np.mean(ranks))
    assert set(results["molecule_to_text"]) == {"mean_rank", "mrr", "hits@1", "hits@10", "weights"}


def _alignment_by_hand(checkpoint: Checkpoint, text: str, smiles: str) -> float:
    model, scores = checkpoint.model, []
    batches = TokenBatch.from_features(checkpoint.text_features([text])), TokenBatch.from_features(checkpoint.molecule_features([smiles]))
    text_levels, molecule_levels = model.levels("text", model("text", batches[0])), model.levels("molecule", model("molecule", batches[1]))
    for ours, theirs in zip(text_levels, molecule_levels, strict=True):
        similarity = torch.nn.functional.normalize(ours.tokens_BKD[0], dim=1) @ torch.nn.functional.normalize(theirs.tokens_BKD[0], dim=1).T
        there, back = similarity.max(1).values @ ours.weights_BK[0], similarity.max(0).values @ theirs.weights_BK[0]
        scores.append(float(there + back) / 2)
    return float(np.mean(scores))


def _rank_by_hand(scores: np.ndarray, target: int) -> int:
    return int((scores >= scores[target] - 1e-6).sum())


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


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("4\tC1CC\ta broken ring", "line 5: 'C1CC'"),
        ("4\t\ta ring", "line 5: ''"),
        ("4\tC1CC1", "line 5: too few columns"),
        ("4\tC1CC1\ta ring\tof three", "line 5: too many columns"),
        ("4\tC1CC1\t  ", "line 5: the description is empty"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(pairs: Path, row: str, complaint: str, tmp_path: Path) -> None:
    pairs.write_text(pairs.read_text() + row + "\n")
    with pytest.raises(DatasetError, match=rf"pairs\.tsv, {complaint}"):
        read_retrieval_task(pairs, [])


def test_several_candidate_files_compressed_or_not_make_one_pool(pairs: Path, candidates: Path, tmp_path: Path) -> None:
    packed = tmp_path / "more.tsv.gz"
    packed.write_bytes(gzip.compress(b"cid\tsmiles\n7\tCCC\n8\tOCC\n"))
    pool = read_retrieval_task(pairs, [candidates, packed]).pool
    assert pool == [*read_retrieval_task(pairs, [candidates]).pool, "CCC"]


def test_a_broken_candidate_is_named_by_file_and_line(pairs: Path, candidates: Path) -> None:
    candidates.write_text("smiles\nCCO\nC[CH5]\n")
    with pytest.raises(DatasetError, match=r"candidates\.tsv, line 3"):
        read_retrieval_task(pairs, [candidates])


def test_a_text_too_long_for_the_model_is_named_by_file_and_line(pairs: Path) -> None:
    with pytest.raises(DatasetError, match=r"pairs\.tsv, line 4: 3 tokens, but the model reads at most 2"):
        evaluate_retrieval(Encoder(small_checkpoint(max_tokens=2)), read_retrieval_task(pairs, []))


def test_a_file_without_descriptions_is_named(pairs: Path) -> None:
    pairs.write_text("cid\tsmiles\tdescription\n")
    with pytest.raises(DatasetError, match="holds no description"):
        read_retrieval_task(pairs, [])


def test_a_missing_checkpoint_is_one_clear_line(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "retrieval", "--pairs", str(pairs), "--model", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
