"""The encoder as the service uses it: honest about bad input, indifferent to batch mates."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from encoder.checkpoint import save_checkpoint
from encoder.inference import EmptyInputError, Encoder, TooLongError
from encoder.molecules import standardise
from tests.encoder_models import sample_features, sample_pairs, small_checkpoint, small_model
from tests.strategies import real_smiles

SMALL = Encoder(small_checkpoint())
BAG = Encoder(small_checkpoint(layers=0))


@pytest.mark.parametrize("encoder", [SMALL, BAG], ids=["layers", "bag"])
def test_vectors_are_the_same_alone_and_in_any_batch(encoder: Encoder) -> None:
    texts, molecules = [pair.text for pair in sample_pairs()[:25]], [pair.smiles for pair in sample_pairs()[:25]]
    for items, encode in ((texts, encoder.encode_texts), (molecules, encoder.encode_molecules)):
        together = encode(items)
        alone = np.concatenate([encode([item]) for item in items])
        assert together.dtype == np.float32
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("layers", [0, 2])
def test_fragments_and_phrases_are_level_one_alone_and_in_any_batch_beside_the_same_vectors(layers: int) -> None:
    encoder = Encoder(small_checkpoint(layers=layers, hierarchy_width=16))
    texts, molecules = [pair.text for pair in sample_pairs()[:8]], [pair.smiles for pair in sample_pairs()[:8]]
    for items, in_parts, vectors_of, levels_of in (
        (texts, encoder.texts_and_phrases, encoder.encode_texts, encoder.text_levels),
        (molecules, encoder.molecules_and_fragments, encoder.encode_molecules, encoder.molecule_levels),
    ):
        together, vectors, levels = in_parts(items), vectors_of(items), levels_of(items)
        for item, (vector, parts), expected, (_, level, _) in zip(items, together, vectors, levels, strict=True):
            np.testing.assert_allclose(vector, expected, atol=1e-6)
            units = level.tokens_KD.numpy() / np.linalg.norm(level.tokens_KD.numpy(), axis=1, keepdims=True)
            np.testing.assert_allclose(parts.vectors_KD, units, atol=1e-5)
            np.testing.assert_allclose(parts.weights_K, level.weights_K.numpy(), atol=1e-6)
            [(_, alone)] = in_parts([item])
            np.testing.assert_allclose(alone.vectors_KD, parts.vectors_KD, atol=1e-4)
            np.testing.assert_allclose(alone.weights_K, parts.weights_K, atol=1e-4)


def test_a_model_without_hierarchy_has_no_fragments() -> None:
    assert BAG.fragment_dimension == 0
    with pytest.raises(ValueError, match="no hierarchy"):
        BAG.texts_and_phrases(["an acid"])


def test_vectors_keep_the_order_of_the_input() -> None:
    texts = ["acid", "a much longer text about an acid and its ester", "ester", "the salt of an acid"]
    np.testing.assert_allclose(SMALL.encode_texts(texts)[::-1], SMALL.encode_texts(texts[::-1]), atol=1e-5)


def test_one_checkpoint_serves_both_directions(tmp_path: Path) -> None:
    version = save_checkpoint(tmp_path, small_model(), *sample_features())
    encoder = Encoder.load(tmp_path)
    assert encoder.version == version
    assert encoder.encode_texts(["an acid"]).shape == encoder.encode_molecules(["CC(=O)O"]).shape == (1, encoder.dimension)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000"])
def test_an_empty_text_is_an_error(text: str) -> None:
    with pytest.raises(EmptyInputError, match="empty"):
        SMALL.encode_texts(["fine", text])


@pytest.mark.parametrize("smiles", ["", "  "])
def test_an_empty_smiles_is_an_error(smiles: str) -> None:
    with pytest.raises(EmptyInputError, match="empty"):
        SMALL.encode_molecules(["CCO", smiles])


def test_an_over_long_input_is_an_error_and_never_cut() -> None:
    encoder = Encoder(small_checkpoint(max_tokens=20))
    assert encoder.encode_texts(["acid " * 20]).shape == (1, 32)
    assert encoder.encode_molecules(["C" * 19]).shape == (1, 32)
    with pytest.raises(TooLongError, match=r"text has 21 tokens.*at most 20"):
        encoder.encode_texts(["acid " * 21])
    with pytest.raises(TooLongError, match=r"molecule has 21 tokens.*at most 20"):
        encoder.encode_molecules(["C" * 20])


def test_every_token_of_a_long_input_counts() -> None:
    start = "acid ester salt " * 150
    first, second = SMALL.encode_texts([start + "steroid", start + "fluorine"])
    assert np.abs(first - second).max() > 1e-4


def test_token_counts_are_the_lengths_that_are_limited() -> None:
    encoder = Encoder(small_checkpoint(max_tokens=7))
    assert encoder.text_tokens("an acid, 2-fold") == 6
    assert encoder.molecule_tokens("CC(=O)O") == 8
    with pytest.raises(TooLongError):
        encoder.encode_molecules(["CC(=O)O"])


def test_an_unreadable_smiles_is_named() -> None:
    with pytest.raises(ValueError, match="C1CC"):
        SMALL.encode_molecules(["CCO", "C1CC"])


def test_no_items_give_no_vectors() -> None:
    assert SMALL.encode_texts([]).shape == (0, 32)
    assert SMALL.encode_molecules([]).shape == (0, 32)


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1).filter(lambda text: text.strip() != ""))
def test_any_text_has_a_finite_vector(text: str) -> None:
    vector = SMALL.encode_texts([text])[0]
    assert np.isfinite(vector).all()
    assert abs(np.linalg.norm(vector) - 1) < 1e-4


@settings(max_examples=20, deadline=None)
@given(real_smiles, st.integers(0, 2**32 - 1))
def test_any_spelling_of_a_molecule_has_its_vector_after_the_door(smiles: str, seed: int) -> None:
    molecule = standardise(smiles)
    read = Chem.MolFromSmiles(molecule.smiles)
    order = [int(atom) for atom in np.random.default_rng(seed).permutation(read.GetNumAtoms())]
    respelt = standardise(Chem.MolToSmiles(Chem.RenumberAtoms(read, order), canonical=False))
    if respelt.inchikey != molecule.inchikey:
        return  # RDKit's writer changed the molecule, not its spelling
    first, second = SMALL.encode_molecules([molecule.smiles, respelt.smiles])
    assert first @ second > 0.99999


@pytest.fixture(scope="module")
def shipped() -> Encoder:
    return Encoder.load()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("acetic acid", "CC(=O)O"),
        ("a steroid hormone with an aromatic ring, estradiol", "C[C@]12CC[C@H]3[C@@H](CCc4cc(O)ccc43)[C@@H]1CC[C@@H]2O"),
        ("beta-D-glucose", "OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O"),
        ("a sulfonamide antibiotic", "Cc1cc(NS(=O)(=O)c2ccc(N)cc2)no1"),
        ("purine alkaloid, caffeine", "Cn1c(=O)c2c(ncn2C)n(C)c1=O"),
        ("long-chain saturated fatty acid", "CCCCCCCCCCCCCCCC(=O)O"),
        ("sodium chloride", "[Na+].[Cl-]"),
    ],
)
def test_the_shipped_weights_know_well_known_compounds(shipped: Encoder, text: str, wanted: str) -> None:
    others = ["CC(=O)O", "CCO", "c1ccccc1", "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "CCCCCCCCCCCCCCCC(=O)O", "[Na+].[Cl-]", "NCC(=O)O", "ClC(Cl)Cl"]
    pool = [wanted, *(smiles for smiles in others if smiles != wanted)]
    assert int(np.argmax(shipped.encode_molecules(pool) @ shipped.encode_texts([text])[0])) == 0


def test_the_shipped_weights_fit_the_repository(shipped: Encoder) -> None:
    folder = Path(__file__).parents[2] / "encoder" / "weights"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40_000_000
    assert len(shipped.version) == 16
