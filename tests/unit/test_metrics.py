"""The scorer agrees with an independent implementation of the published protocols, and says no to what cannot be scored."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.training.metrics import caption_scores, molecule_scores, rank_by_cosine, retrieval_scores, tie_aware_ranks

PEERS = Path(__file__).parents[2] / "data" / "peers"
EXPECTED = json.loads((PEERS / "expected.json").read_text())


def columns(name: str) -> tuple[list[str], list[str]]:
    with (PEERS / name).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["ground truth"] for row in rows], [row["output"] for row in rows]


def test_caption_scores_agree_with_the_independent_scorer_to_three_digits() -> None:
    references, outputs = columns("captions.tsv")
    assert len(references) == EXPECTED["captions.tsv"]["n"]
    scores = caption_scores(references, outputs)
    for name in ("bleu2", "bleu4", "rouge1", "rouge2", "rougeL"):
        assert getattr(scores, name) == pytest.approx(EXPECTED["captions.tsv"][name], abs=5e-4), name


def test_molecule_scores_agree_with_the_independent_scorer_to_three_digits() -> None:
    references, outputs = columns("molecules.tsv")
    scores = molecule_scores(references, outputs)
    expected = dict(EXPECTED["molecules.tsv"])
    assert len(references) == expected.pop("n")
    expected["levenshtein"] = expected.pop("lev")
    for name, value in expected.items():
        assert getattr(scores, name) == pytest.approx(value, abs=5e-4), name


def test_equal_captions_score_one_and_unrelated_ones_near_zero() -> None:
    text = "The molecule is a primary alcohol that is ethane."
    assert caption_scores([text], [text]).bleu4 == pytest.approx(1.0)
    unrelated = caption_scores([text], ["xylose"])
    assert unrelated.bleu2 < 1e-6
    assert unrelated.rougeL == 0.0


def test_captions_are_compared_without_case_in_bleu() -> None:
    assert caption_scores(["The Molecule is an Acid."], ["the molecule is an acid."]).bleu4 == pytest.approx(1.0)


def test_another_spelling_of_the_same_molecule_is_an_exact_match_but_not_its_mirror_image() -> None:
    scores = molecule_scores(["C[C@H](N)C(=O)O", "CCO"], ["C[C@@H](N)C(=O)O", "OCC"])
    assert scores.exact == 0.5
    assert scores.validity == 1.0
    assert scores.levenshtein == pytest.approx((1 + 2) / 2)


@pytest.mark.parametrize("output", ["", "C1CC", "not a molecule"])
def test_an_invalid_or_empty_output_counts_as_invalid_and_leaves_the_fingerprints_alone(output: str) -> None:
    scores = molecule_scores(["CCO", "CCN"], ["CCO", output])
    assert scores.validity == 0.5
    assert scores.exact == 0.5
    assert scores.morgan == pytest.approx(1.0)


def test_no_valid_output_gives_fingerprint_scores_of_zero() -> None:
    assert molecule_scores(["CCO"], ["C1C"]).maccs == 0.0


def test_scorers_refuse_what_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="1 references do not match 2 outputs"):
        caption_scores(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="no outputs"):
        molecule_scores([], [])
    with pytest.raises(ValueError, match="'C1C' is not a valid SMILES"):
        molecule_scores(["C1C"], ["CC"])
    with pytest.raises(ValueError, match="no queries"):
        retrieval_scores(np.array([], dtype=np.int64))


def test_ties_count_against_us() -> None:
    scores_QN = np.array([[0.5, 0.5, 0.5, 0.1], [0.9, 0.2, 0.1, 0.0]])
    assert tie_aware_ranks(scores_QN, np.array([1, 0])).tolist() == [3, 1]


def test_a_model_that_gives_every_item_the_same_vector_ranks_last() -> None:
    vectors_ND = np.ones((7, 4), dtype=np.float32) / 2
    assert rank_by_cosine(vectors_ND, vectors_ND, np.arange(7)).tolist() == [7] * 7


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        tie_aware_ranks(np.array([[np.nan, 0.0]]), np.array([0]))


def test_retrieval_scores_are_those_of_known_ranks() -> None:
    scores = retrieval_scores(np.array([1, 2, 10, 40]))
    assert scores.to_json() == {"mean_rank": 13.25, "mrr": pytest.approx((1 + 0.5 + 0.1 + 0.025) / 4), "hits@1": 0.25, "hits@10": 0.75}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_chunked_ranks_equal_ranks_by_counting(pool: int, queries: int, seed: int, chunk: int) -> None:
    generator = np.random.default_rng(seed)
    pool_ND = generator.integers(-2, 3, (pool, 3)).astype(np.float64)
    queries_QD = generator.integers(-2, 3, (queries, 3)).astype(np.float64)
    targets_Q = generator.integers(0, pool, queries)
    counted = [
        1 + sum(query @ other >= query @ pool_ND[target] for index, other in enumerate(pool_ND) if index != target)
        for query, target in zip(queries_QD, targets_Q, strict=True)
    ]
    assert rank_by_cosine(queries_QD, pool_ND, targets_Q, chunk).tolist() == counted
