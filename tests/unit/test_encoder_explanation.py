"""Explanations: phrases where they stand in the text, atoms where they stand in the molecule, shares that add up."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from encoder.explanation import LEVEL_NAMES, find_phrases, point_at_atoms
from encoder.features import atoms_of_tokens
from encoder.inference import EmptyInputError, Encoder, TooLongError
from encoder.model.atomas import TokenBatch
from encoder.tokenizer import locate_words, split_smiles, split_text
from tests.encoder_models import sample_features, sample_pairs, small_checkpoint
from tests.strategies import real_smiles

BAG, LAYERS, DEEP = (Encoder(small_checkpoint(layers, hierarchy_width=width)) for layers, width in ((0, 0), (2, 0), (0, 16)))
TEXT, SMILES = "Steroid ester with an 11-oxo group, isolated from α-pinene.", "CC(=O)OC1CCC2(C)C1CC(=O)C2"


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_words_are_found_where_they_stand(text: str) -> None:
    spans = locate_words(text)
    assert len(spans) == len(split_text(text))
    assert all(start < end for start, end in spans)
    assert all(first[1] <= second[0] or first == second for first, second in itertools.pairwise(spans))


def test_words_keep_their_places_where_lower_case_or_greek_letters_change_the_length() -> None:
    text = "İ β-D-Glucose, ΑΣ"
    assert [text[start:end] for start, end in locate_words(text)] == ["İ", "İ", "β", "-", "D", "-", "Glucose", ",", "Α", "Σ"]


def test_phrases_are_what_stands_between_joining_words() -> None:
    assert [TEXT[start:end] for start, end in find_phrases(TEXT)] == ["Steroid ester", "11-oxo", "α-pinene"]
    name = "It is 2,3-dihydroxy-1.5-lactone (R)."
    assert [name[start:end] for start, end in find_phrases(name)] == ["2,3-dihydroxy-1.5-lactone (R)"]
    assert find_phrases("with") == [(0, 4)]
    assert find_phrases("") == []


@pytest.mark.parametrize("encoder", [BAG, LAYERS, DEEP], ids=["bag", "layers", "hierarchy"])
def test_an_explanation_adds_up(encoder: Encoder) -> None:
    explanation = encoder.explain(TEXT, SMILES)
    atoms = Chem.MolFromSmiles(SMILES).GetNumAtoms()
    assert explanation.score == pytest.approx(float(encoder.encode_texts([TEXT])[0] @ encoder.encode_molecules([SMILES])[0]), abs=1e-5)
    assert sum(phrase.weight for phrase in explanation.phrases) == pytest.approx(1)
    for phrase in explanation.phrases:
        assert phrase.text == TEXT[phrase.span[0] : phrase.span[1]]
        assert phrase.atom_weights.shape == (atoms,)
        assert (phrase.atom_weights >= 0).all()
        assert phrase.atom_weights.sum() == pytest.approx(1) or not phrase.atom_weights.any()
    assert any(phrase.atom_weights.any() for phrase in explanation.phrases)


def test_every_level_divides_words_and_atoms_among_its_clusters() -> None:
    explanation = DEEP.explain(TEXT, SMILES)
    atoms = Chem.MolFromSmiles(SMILES).GetNumAtoms()
    assert [level.name for level in explanation.levels] == list(LEVEL_NAMES)
    for level in explanation.levels:
        assert sorted(atom for cluster in level.molecule_clusters for atom in cluster.atoms) == list(range(atoms))
        assert sorted(span for cluster in level.text_clusters for span in cluster.spans) == sorted(locate_words(TEXT))
        assert level.similarities.shape == (len(level.text_clusters), len(level.molecule_clusters))
        assert np.abs(level.similarities).max() <= 1 + 1e-5
        for clusters in (level.text_clusters, level.molecule_clusters):
            assert sum(cluster.weight for cluster in clusters) == pytest.approx(1, abs=1e-5)
    sizes = [(len(level.text_clusters), len(level.molecule_clusters)) for level in explanation.levels]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0][1] == atoms
    assert sizes[1][1] < atoms
    assert BAG.explain(TEXT, SMILES).levels == ()


def test_parts_of_atoms_and_the_whole_make_up_the_slope_of_the_cosine() -> None:
    """Gradient times input over all features is the derivative along the bag itself; what no atom carries are keys of the whole."""
    checkpoint = small_checkpoint(layers=0)
    target = torch.nn.functional.normalize(torch.randn(1, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    features = checkpoint.molecule_features([SMILES])
    tower, batch = checkpoint.model.tower("molecule"), TokenBatch.from_features(features)
    bag = tower.bag(batch)

    def cosine(step: float) -> float:
        # Towards the bag without what one atom's element brings.
        return float((tower.project(bag - step * part) @ target.T).item())

    described = checkpoint.molecule_features.atoms_described(SMILES)
    only_first = [feature for feature, atoms in enumerate(described) if atoms.tolist() == [0]]
    shared_with_first = [feature for feature, atoms in enumerate(described) if 0 in atoms]
    assert 0 < len(only_first) < len(shared_with_first)
    mass = torch.from_numpy(features.mass).double()[np.repeat(np.arange(len(features.mass)), features.feature_counts)]
    inputs = (tower.table[batch.ids_F].double() * batch.weights_F[:, None] * mass[:, None]).float()
    expected = np.zeros(Chem.MolFromSmiles(SMILES).GetNumAtoms())
    for feature, atoms in enumerate(described):
        part = inputs[feature]
        if len(atoms):
            expected[atoms] += (cosine(-0.5) - cosine(0.5)) / len(atoms)
    expected = np.maximum(expected, 0)
    _, weights = point_at_atoms(checkpoint, SMILES, target)
    np.testing.assert_allclose(weights[0], expected / expected.sum(), atol=0.01)


@settings(max_examples=40, deadline=None)
@given(real_smiles)
def test_every_atom_is_described_by_its_own_token_and_environments_reach_as_far_as_their_radius(smiles: str) -> None:
    features = sample_features()[1]
    molecule = Chem.MolFromSmiles(smiles)
    tokens = atoms_of_tokens(smiles, molecule)
    assert len(tokens) == len(split_smiles(smiles))
    assert sorted(atom for atom in tokens if atom is not None) == list(range(molecule.GetNumAtoms()))
    described, counts = features.atoms_described(smiles), features([smiles]).feature_counts
    assert len(described) == counts.sum()
    assert set().union(*map(set, described)) == set(range(molecule.GetNumAtoms()))
    assert all(len(atoms) == 0 for atoms in described[: counts[0]])


def test_the_shipped_weights_point_at_what_a_phrase_names() -> None:
    encoder = Encoder.load()
    smiles = "O=C(O)CCCCc1ccc(F)cc1"
    molecule = Chem.MolFromSmiles(smiles)
    for phrase, smarts in (("carboxylic acid", "C(=O)[OH]"), ("fluorine", "F")):
        group = set(molecule.GetSubstructMatch(Chem.MolFromSmarts(smarts)))
        explanation = encoder.explain(f"a compound with a {phrase}", smiles)
        found = next(part for part in explanation.phrases if part.text == phrase)
        assert int(found.atom_weights.argmax()) in group
        assert found.atom_weights[list(group)].mean() > 3 * np.delete(found.atom_weights, list(group)).mean()


def test_input_that_cannot_be_encoded_cannot_be_explained() -> None:
    with pytest.raises(EmptyInputError):
        BAG.explain("", "CCO")
    with pytest.raises(EmptyInputError):
        BAG.explain("an alcohol", " ")
    with pytest.raises(TooLongError):
        Encoder(small_checkpoint(max_tokens=3)).explain("an alcohol", "CCCCO")
    with pytest.raises(ValueError, match="C1CC"):
        BAG.explain("an alcohol", "C1CC")


def test_explaining_any_pair_of_the_sample_gives_finite_numbers() -> None:
    for pair in sample_pairs()[:8]:
        explanation = DEEP.explain(pair.text, pair.smiles)
        assert np.isfinite(explanation.score)
        assert all(np.isfinite(phrase.atom_weights).all() for phrase in explanation.phrases)
