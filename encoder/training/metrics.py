"""Published scores of captions, generated molecules and retrieval."""

# Shape legend:  Q queries, N candidates of the pool, D vector width

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from nltk.translate.bleu_score import corpus_bleu
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import rdFingerprintGenerator, rdinchi, rdMolDescriptors
from rouge_score.rouge_scorer import RougeScorer
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

WORD_PIECES = Path(__file__).parents[2] / "data" / "chebi20" / "scibert_vocab.txt"
TIE_TOLERANCE = 1e-6
"""Scores closer than this are tied: equal vectors differ by as much after a matrix product."""
MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=2)


@dataclass(frozen=True)
class CaptionScores:
    """How close written texts are to the references, each from 0 to 1."""

    bleu2: float
    bleu4: float
    rouge1: float
    rouge2: float
    rougeL: float


@dataclass(frozen=True)
class MoleculeScores:
    """How close written SMILES are to the references; shares from 0 to 1, `levenshtein` in characters."""

    bleu: float
    exact: float
    levenshtein: float
    maccs: float
    rdk: float
    morgan: float
    validity: float


@dataclass(frozen=True)
class RetrievalScores:
    """Where the right candidate ranks among all, the first being 1; hits are shares of the queries."""

    mean_rank: float
    mrr: float
    hits_at_1: float
    hits_at_10: float

    def to_json(self) -> dict[str, float]:
        """The scores under their published names."""
        return {"mean_rank": self.mean_rank, "mrr": self.mrr, "hits@1": self.hits_at_1, "hits@10": self.hits_at_10}


def caption_scores(references: Sequence[str], outputs: Sequence[str]) -> CaptionScores:
    """Score texts as Text2Mol and MolT5 do: BLEU of the corpus on lower-cased SciBERT word pieces, mean ROUGE F without stemming."""
    _check_pairs(references, outputs)
    pieces = [_word_pieces(reference) for reference in references], [_word_pieces(output) for output in outputs]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    rouge = [scorer.score(reference, output) for reference, output in zip(references, outputs, strict=True)]
    rouge1, rouge2, rouge_l = (float(np.mean([row[name].fmeasure for row in rouge])) for name in ("rouge1", "rouge2", "rougeL"))
    return CaptionScores(_bleu(*pieces, order=2), _bleu(*pieces, order=4), rouge1, rouge2, rouge_l)


def molecule_scores(references: Sequence[str], outputs: Sequence[str]) -> MoleculeScores:
    """Score SMILES as MolT5 does: BLEU-4 on characters, exact match by InChI, Levenshtein distance of the strings as written.

    Fingerprints (MACCS, RDKit, Morgan counts of radius 2) are compared by Tanimoto over the valid outputs alone. Raises ValueError for a
    reference that RDKit cannot read.
    """
    _check_pairs(references, outputs)
    with rdBase.BlockLogs():
        molecules = [
            (_reference(reference), Chem.MolFromSmiles(output) if output else None)
            for reference, output in zip(references, outputs, strict=True)
        ]
        valid = [(reference, output) for reference, output in molecules if output is not None]
        exact = sum(_same_inchi(reference, output) for reference, output in valid)
        similarities = [_similarities(reference, output) for reference, output in valid]
    maccs, rdk, morgan = np.mean(similarities, axis=0).tolist() if similarities else (0.0, 0.0, 0.0)
    return MoleculeScores(
        bleu=_bleu([list(reference) for reference in references], [list(output) for output in outputs], order=4),
        exact=exact / len(references),
        levenshtein=float(
            np.mean([Levenshtein.distance(reference, output) for reference, output in zip(references, outputs, strict=True)])
        ),
        maccs=maccs,
        rdk=rdk,
        morgan=morgan,
        validity=len(valid) / len(references),
    )


def tie_aware_ranks(scores_QN: NDArray[np.floating], targets_Q: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rank of each query's target: one more than the others that score higher or as high; ties count against us.

    Raises ValueError for scores that are not finite, which would rank a broken model first.
    """
    if not np.isfinite(scores_QN).all():
        raise ValueError("scores must be finite numbers; the vectors hold NaN or infinity")
    own_Q1 = np.take_along_axis(scores_QN, targets_Q[:, None], axis=1)
    ranks_Q: NDArray[np.int64] = (scores_QN >= own_Q1 - TIE_TOLERANCE).sum(axis=1, dtype=np.int64)
    return ranks_Q


def retrieval_scores(ranks_Q: NDArray[np.integer]) -> RetrievalScores:
    """Sum up ranks; ValueError when there are none."""
    if len(ranks_Q) == 0:
        raise ValueError("no queries to score")
    return RetrievalScores(
        mean_rank=float(ranks_Q.mean()),
        mrr=float((1.0 / ranks_Q).mean()),
        hits_at_1=float((ranks_Q <= 1).mean()),
        hits_at_10=float((ranks_Q <= 10).mean()),
    )


def rank_by_cosine(
    queries_QD: NDArray[np.floating], pool_ND: NDArray[np.floating], targets_Q: NDArray[np.integer], chunk: int = 512
) -> NDArray[np.int64]:
    """Tie-aware rank of each query's target in a pool of normalised vectors, `chunk` queries at a time."""
    starts = range(0, len(queries_QD), chunk)
    ranks = [tie_aware_ranks(queries_QD[start : start + chunk] @ pool_ND.T, targets_Q[start : start + chunk]) for start in starts]
    return np.concatenate(ranks) if ranks else np.empty(0, dtype=np.int64)


def _check_pairs(references: Sequence[str], outputs: Sequence[str]) -> None:
    if len(references) != len(outputs):
        raise ValueError(f"{len(references)} references do not match {len(outputs)} outputs")
    if not references:
        raise ValueError("no outputs to score")


@cache
def _tokenizer() -> Tokenizer:
    pieces = WORD_PIECES.read_text(encoding="utf-8").splitlines()
    tokenizer = Tokenizer(WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def _word_pieces(text: str) -> list[str]:
    tokens: list[str] = _tokenizer().encode(text, add_special_tokens=False).tokens
    return tokens


def _bleu(references: list[list[str]], outputs: list[list[str]], order: int) -> float:
    with warnings.catch_warnings():
        # No common n-gram of the highest order: the score is then as good as zero, which says it well enough.
        warnings.simplefilter("ignore", UserWarning)
        return float(corpus_bleu([[reference] for reference in references], outputs, weights=[1 / order] * order))


def _reference(smiles: str) -> Chem.Mol:
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not smiles:
        raise ValueError(f"the reference {smiles!r} is not a valid SMILES")
    return molecule


def _same_inchi(reference: Chem.Mol, output: Chem.Mol) -> bool:
    inchi = rdinchi.MolToInchi(reference)[0]
    return bool(inchi) and inchi == rdinchi.MolToInchi(output)[0]


def _similarities(reference: Chem.Mol, output: Chem.Mol) -> tuple[float, float, float]:
    return (
        DataStructs.TanimotoSimilarity(
            rdMolDescriptors.GetMACCSKeysFingerprint(reference), rdMolDescriptors.GetMACCSKeysFingerprint(output)
        ),
        DataStructs.TanimotoSimilarity(Chem.RDKFingerprint(reference), Chem.RDKFingerprint(output)),
        DataStructs.TanimotoSimilarity(MORGAN.GetSparseCountFingerprint(reference), MORGAN.GetSparseCountFingerprint(output)),
    )
