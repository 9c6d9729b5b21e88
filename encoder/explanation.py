"""Why a text finds a molecule: the phrases of the text, the atoms each points at, and how both align on every level of the hierarchy."""

# Shape legend:  P phrases, A atoms, T text tokens, L tokens of the molecule, F features of the molecule, D width, E dimension of the vectors
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rdkit import Chem
from torch import Tensor

from encoder.checkpoint import Checkpoint
from encoder.features import atoms_of_tokens
from encoder.levels import ItemLevel, ItemLevels
from encoder.model.atomas import TokenBatch
from encoder.tokenizer import locate_words, split_text

LEVEL_NAMES = ("atom", "fragment", "molecule")

# Words that join phrases and signs that end them.
_BETWEEN_PHRASES = frozenset(
    """a about above across after all also an and any are as at be been before being below between both but by can carrying consisting
    containing contains derived each either for found from function functional group groups has have having in into is isolated it its
    joined linked may more no nor not obtained of on one onto or other out over part per position positions produced related replaced
    resulting role such than that the their them there these they this those through to under up used was were where whereas which whose
    with within without , ; . : ! ? " """.split()  # noqa: SIM905
)
_MAX_PHRASE_TOKENS = 60  # systematic names run long

Span = tuple[int, int]
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Phrase:
    """Consecutive words of the text and the atoms that they point at."""

    span: Span
    """First character in the text and the one after the last."""
    text: str
    weight: float
    """How far the text's vector moves without the phrase, as a share: the weights of all phrases sum to 1."""
    atom_weights: Weights
    """Share of each atom (A,), summing to 1; all zero where no atom brings the molecule nearer to the phrase."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Tokens that are one on a level: places of the text, or atoms of the molecule."""

    spans: tuple[Span, ...]
    atoms: tuple[int, ...]
    weight: float
    """Fusion weight; those of one item on one level sum to 1."""


@dataclass(frozen=True, slots=True)
class AlignedLevel:
    """One level of the hierarchy: `atom` (with words), `fragment` (with phrases) or `molecule` (with the text)."""

    name: str
    text_clusters: tuple[Cluster, ...]
    molecule_clusters: tuple[Cluster, ...]
    similarities: Weights
    """Cosine of every text cluster and every molecule cluster."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a text finds a molecule."""

    score: float
    """Cosine of the two vectors."""
    atom_weights: Weights
    """Share of each atom (A,) in the whole text, as a phrase's `atom_weights`."""
    phrases: tuple[Phrase, ...]
    levels: tuple[AlignedLevel, ...]
    """From words and atoms upwards; empty for a checkpoint without hierarchy."""


def explain(checkpoint: Checkpoint, text: str, smiles: str, text_levels: ItemLevels = (), molecule_levels: ItemLevels = ()) -> Explanation:
    """Explain one pair; atoms are numbered as RDKit reads the SMILES. `Encoder.explain` refuses bad input and brings the levels.

    The weights of atoms are gradient times input, which is exact to first order and needs no hierarchy: every circular environment brings
    its part of the cosine between the molecule and the phrase alone, shared evenly by the atoms that it covers; what speaks against the
    phrase counts nothing. `benchmarks/explanation.py` measures how well they point.
    """
    phrases = find_phrases(text)
    model = checkpoint.model
    with torch.no_grad():
        texts_PE = model.vectors("text", TokenBatch.from_features(checkpoint.text_features([text[start:end] for start, end in phrases])))
        vector_E, moved_P = _text_without_phrases(checkpoint, text, phrases)
    score, weights_PA = point_at_atoms(checkpoint, smiles, torch.cat([vector_E[None], texts_PE]))
    total = max(float(moved_P.sum()), 1e-12)
    return Explanation(
        float(score[0]),
        weights_PA[0],
        tuple(
            Phrase(span, text[span[0] : span[1]], float(moved) / total, weights)
            for span, moved, weights in zip(phrases, moved_P, weights_PA[1:], strict=True)
        ),
        _aligned_levels(text, smiles, text_levels, molecule_levels),
    )


def find_phrases(text: str) -> list[Span]:
    """Cut a text into phrases: runs of words between those that only join; a text of such words alone is one phrase."""
    phrases: list[list[Span]] = []
    open_phrase = False
    for word, span in zip(split_text(text), locate_words(text), strict=True):
        # "2,3-dihydro" and "1.5" are one: a sign only ends a phrase where a space follows.
        joins = word in _BETWEEN_PHRASES and (word.isalpha() or not text[span[1] : span[1] + 1].strip())
        if joins:
            open_phrase = False
            continue
        if not open_phrase or len(phrases[-1]) >= _MAX_PHRASE_TOKENS:
            phrases.append([])
        phrases[-1].append(span)
        open_phrase = True
    found = [(spans[0][0], spans[-1][1]) for spans in phrases]
    found = [(start, end) for start, end in found if any(map(str.isalnum, text[start:end]))]
    places = locate_words(text)
    return found or ([(places[0][0], places[-1][1])] if places else [])


def point_at_atoms(checkpoint: Checkpoint, smiles: str, targets_PE: Tensor) -> tuple[Tensor, Weights]:
    """Cosine of a molecule with each target vector, and the share (P, A) of every atom in it."""
    model, tower = checkpoint.model, checkpoint.model.tower("molecule")
    features = checkpoint.molecule_features([smiles])
    batch = TokenBatch.from_features(features)
    embedded_1LD = tower.embed(batch).detach().requires_grad_()
    with torch.enable_grad():
        vector_E = model.encode_tokens("molecule", embedded_1LD, batch).vectors_BE[0]
        scores_P = targets_PE @ vector_E
        slopes_PLD = torch.stack([torch.autograd.grad(score, embedded_1LD, retain_graph=True)[0][0] for score in scores_P])
    token_of_feature_F = np.repeat(np.arange(len(features.feature_counts)), features.feature_counts)
    inputs_FD = tower.table.detach()[batch.ids_F] * batch.weights_F[:, None]
    parts_PF = (slopes_PLD[:, token_of_feature_F] * inputs_FD).sum(-1).numpy().astype(np.float64)
    weights_PA = np.zeros((len(parts_PF), Chem.MolFromSmiles(smiles).GetNumAtoms()))
    for feature, atoms in enumerate(checkpoint.molecule_features.atoms_described(smiles)):
        if len(atoms):
            weights_PA[:, atoms] += parts_PF[:, feature, None] / len(atoms)
    weights_PA = np.maximum(weights_PA, 0.0)
    total_P1 = weights_PA.sum(1, keepdims=True)
    return scores_P.detach(), np.divide(weights_PA, total_P1, out=np.zeros_like(weights_PA), where=total_P1 > 0)


def _text_without_phrases(checkpoint: Checkpoint, text: str, phrases: Sequence[Span]) -> tuple[Tensor, Tensor]:
    """The text's vector (E,), and how far (P,) it moves when a phrase loses its say in it."""
    tower = checkpoint.model.tower("text")
    encoded = checkpoint.model("text", TokenBatch.from_features(checkpoint.text_features([text])))
    inside_PT = torch.tensor([[start <= first and last <= end for first, last in locate_words(text)] for start, end in phrases])
    mass_PT = encoded.mass_BL * ~inside_PT.reshape(len(phrases), encoded.mass_BL.shape[1])
    without_PE = tower.project(tower.pool(encoded.tokens_BLD.expand(len(phrases), -1, -1), mass_PT))
    vector_E = encoded.vectors_BE[0]
    return vector_E, (1 - without_PE @ vector_E).clamp_min(0)


def _aligned_levels(text: str, smiles: str, text_levels: ItemLevels, molecule_levels: ItemLevels) -> tuple[AlignedLevel, ...]:
    spans = locate_words(text)
    atoms = [None, *atoms_of_tokens(smiles, Chem.MolFromSmiles(smiles))]
    return tuple(
        AlignedLevel(
            name,
            tuple(Cluster(tuple(spans[token] for token in tokens), (), weight) for tokens, weight in _clusters(text_level)),
            tuple(
                Cluster((), tuple(atom for token in tokens if (atom := atoms[token]) is not None), weight)
                for tokens, weight in _clusters(molecule_level)
            ),
            (F.normalize(text_level.tokens_KD, dim=1) @ F.normalize(molecule_level.tokens_KD, dim=1).T).numpy().astype(np.float64),
        )
        for name, text_level, molecule_level in zip(LEVEL_NAMES, text_levels, molecule_levels, strict=False)
    )


def _clusters(level: ItemLevel) -> list[tuple[list[int], float]]:
    """The encoder's tokens and the weight of each cluster."""
    return [
        (torch.nonzero(level.assignment_L == cluster).flatten().tolist(), float(weight)) for cluster, weight in enumerate(level.weights_K)
    ]
