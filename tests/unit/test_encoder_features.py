"""Features of tokens: against independent implementations, for any spelling, for any text."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from sklearn.feature_extraction.text import TfidfVectorizer

from encoder.features import FEATURES_VERSION, MoleculeFeatures, TextFeatures, TokenFeatures
from encoder.tokenizer import split_smiles, split_text
from encoder.training.items import bag_matrix
from tests.encoder_models import sample_features, sample_pairs
from tests.strategies import real_smiles

TEXTS, MOLECULES = sample_features()


def _bag(features: TokenFeatures, rows: int) -> np.ndarray:
    return np.asarray(bag_matrix(features, rows).todense())


def test_text_bag_is_the_tf_idf_of_word_ngrams() -> None:
    texts = [pair.text for pair in sample_pairs()][:100]
    features = TextFeatures.learn(texts, max_word_ngrams=100_000, max_character_ngrams=0, min_texts=1, buckets=8)
    vectorizer = TfidfVectorizer(
        tokenizer=split_text, token_pattern=None, lowercase=False, ngram_range=(1, 3), sublinear_tf=True, vocabulary=list(features.ngrams)
    )
    expected = vectorizer.fit_transform(texts).toarray()
    np.testing.assert_allclose(_bag(features(texts), features.rows)[:, : len(features.ngrams)], expected, atol=1e-5)


def test_text_ngrams_are_the_most_frequent_ones() -> None:
    features = TextFeatures.learn(["acid salt", "acid salt", "acid ester", "rare"], 2, 1, min_texts=2, buckets=4)
    assert features.ngrams[:2] == ("acid", "acid salt")
    assert features.ngrams[2].startswith("~")


def test_word_ngrams_belong_to_the_word_that_ends_them() -> None:
    features = TextFeatures(["fatty", "acid", "fatty acid", "~aci"], np.ones(4, np.float32), 2)
    found = features(["fatty acid"])
    assert found.feature_counts.tolist() == [1, 3]
    assert found.ids.tolist() == [0, 1, 2, 3]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_every_word_of_any_text_has_a_feature_and_mass(texts: list[str]) -> None:
    features = TEXTS(texts)
    assert features.token_counts.tolist() == [len(split_text(text)) for text in texts]
    assert (features.feature_counts > 0).all()
    assert (features.mass > 0).all()
    assert features.ids.max(initial=0) < TEXTS.rows
    tokens = np.repeat(np.arange(len(features.mass)), features.feature_counts)
    np.testing.assert_allclose(np.bincount(tokens, features.weights, len(features.mass)), 1.0, rtol=1e-4)


def test_a_texts_features_do_not_depend_on_its_neighbours() -> None:
    alone, together = TEXTS(["the molecule is an acid"]), TEXTS(["🙂", "the molecule is an acid", "acid acid acid"])
    np.testing.assert_array_equal(_bag(alone, TEXTS.rows)[0], _bag(together, TEXTS.rows)[1])


def test_molecule_bag_counts_circular_environments() -> None:
    smiles = "CCOC(=O)c1ccccc1"
    features = MoleculeFeatures.learn([smiles], min_molecules=1)
    counts = rdFingerprintGenerator.GetMorganGenerator(radius=3).GetSparseCountFingerprint(Chem.MolFromSmiles(smiles)).GetNonzeroElements()
    # The environments of radius 3 swallow some of radius 2 that the generator of radius 2 also reports: compare those both know.
    bag = _bag(features([smiles]), features.rows)[0]
    rows = {environment: row for row, environment in enumerate(features.environments)}
    assert set(counts) <= set(rows)
    np.testing.assert_allclose([bag[rows[e]] for e in counts], [np.log1p(count) for count in counts.values()], rtol=1e-5)


def test_molecule_tokens_are_the_whole_and_the_smiles_tokens() -> None:
    smiles = "C[C@H](N)C(=O)O.[Na+]"
    features = MOLECULES([smiles])
    assert features.token_counts.tolist() == [1 + len(split_smiles(smiles))]
    is_context = [False] + [token in "()=." for token in split_smiles(smiles)]
    assert (features.mass == 0).tolist() == is_context


@settings(max_examples=60, deadline=None)
@given(real_smiles, st.randoms(use_true_random=False))
def test_molecule_bag_does_not_depend_on_the_spelling(smiles: str, random: object) -> None:
    molecule = Chem.MolFromSmiles(smiles)
    order = list(range(molecule.GetNumAtoms()))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    respelt = Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False)
    if Chem.MolToSmiles(Chem.MolFromSmiles(respelt)) != Chem.MolToSmiles(molecule):
        return  # RDKit itself lost stereochemistry on the way: another molecule
    first, second = _bag(MOLECULES([smiles, respelt]), MOLECULES.rows)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_kekule_and_explicit_hydrogen_spellings_have_the_bag_of_the_plain_one() -> None:
    plain, kekule, hydrogens = _bag(MOLECULES(["Oc1ccccc1", "OC1=CC=CC=C1", "[H]Oc1c([H])cccc1"]), MOLECULES.rows)
    np.testing.assert_allclose(plain, kekule, atol=1e-6)
    np.testing.assert_allclose(plain, hydrogens, atol=1e-6)


def test_merged_hydrogens_are_context_and_the_other_atoms_keep_their_places() -> None:
    features = MOLECULES(["[H]OC"])
    places = np.split(features.ids, np.cumsum(features.feature_counts)[:-1])
    plain = np.split(MOLECULES(["OC"]).ids, np.cumsum(MOLECULES(["OC"]).feature_counts)[:-1])
    assert features.mass[1] == 0
    assert set(places[2]) == set(plain[1])
    assert set(places[3]) == set(plain[2])


@pytest.mark.parametrize(
    "smiles", ["*CC*", "[U]", "[Og]", "b1ccccc1", "[2H]O[2H]", "[H+]", "[H][H]", "[H]/N=C(\\C)N", "C" * 1000, "[Na+].[Cl-]"]
)
def test_rare_molecules_have_features(smiles: str) -> None:
    features = MOLECULES([smiles])
    assert features.mass.sum() > 0
    assert np.isfinite(features.weights).all()


def test_an_unreadable_smiles_is_named() -> None:
    with pytest.raises(ValueError, match=r"C1CC"):
        MOLECULES(["CCO", "C1CC"])


def test_mirror_images_differ() -> None:
    left, right = _bag(MOLECULES(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"]), MOLECULES.rows)
    assert np.abs(left - right).max() > 0.1


def test_features_are_those_of_their_version() -> None:
    # Whoever changes what a text or a molecule looks like to the model raises FEATURES_VERSION, and with it every model's version.
    pairs = sample_pairs()[::10]
    digest = hashlib.sha256()
    for features in (TEXTS([pair.text for pair in pairs]), MOLECULES([pair.smiles for pair in pairs])):
        for token_features in np.split(features.ids, np.cumsum(features.feature_counts)[:-1]):
            digest.update(np.sort(token_features).astype("<i8").tobytes())
    assert (FEATURES_VERSION, digest.hexdigest()[:16]) == ("1", "8ffe7a140ef5a5dc")


def test_features_do_not_need_torch() -> None:
    program = "import sys, encoder.features, encoder.tokenizer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
