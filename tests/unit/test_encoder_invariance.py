"""The vector of a molecule does not depend on its spelling, nor that of any item on its batch mates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.invariance import LEAST_AFTER_DOOR, LEAST_MEDIAN_BEFORE, measure, validation_molecules
from encoder.inference import Encoder
from tests.encoder_models import sample_pairs, small_checkpoint
from tests.strategies import real_smiles

SMALL = Encoder(small_checkpoint())
BAG = Encoder(small_checkpoint(layers=0))


@pytest.fixture(scope="module")
def shipped() -> Encoder:
    return Encoder.load()


def test_fifty_validation_molecules_keep_their_vectors_in_any_spelling(shipped: Encoder) -> None:
    result = measure(shipped, validation_molecules(50), spellings=4)
    assert len(result.after_door) + result.changed == 200
    assert result.changed < 10
    assert result.after_door.min() > LEAST_AFTER_DOOR
    assert np.median(result.before_door) > LEAST_MEDIAN_BEFORE


def test_the_measure_sees_an_encoder_that_reads_spellings() -> None:
    # Open gates and random weights: this encoder looks at positions, so only the door makes spellings equal.
    result = measure(SMALL, validation_molecules(10), spellings=3)
    assert result.after_door.min() > LEAST_AFTER_DOOR
    assert result.before_door.min() < LEAST_AFTER_DOOR


texts = st.lists(
    st.sampled_from([pair.text for pair in sample_pairs()]) | st.text("abc -1αβ", min_size=1).filter(str.strip), min_size=1, max_size=8
)


@pytest.mark.parametrize("encoder", [SMALL, BAG], ids=["layers", "bag"])
@settings(max_examples=25, deadline=None)
@given(batch=texts)
def test_a_text_has_its_vector_whatever_it_is_batched_with(encoder: Encoder, batch: list[str]) -> None:
    alone = np.concatenate([encoder.encode_texts([text]) for text in batch])
    assert np.abs(encoder.encode_texts(batch) - alone).max() < 1e-5


@pytest.mark.parametrize("encoder", [SMALL, BAG], ids=["layers", "bag"])
@settings(max_examples=25, deadline=None)
@given(batch=st.lists(real_smiles, min_size=1, max_size=8))
def test_a_molecule_has_its_vector_whatever_it_is_batched_with(encoder: Encoder, batch: list[str]) -> None:
    alone = np.concatenate([encoder.encode_molecules([smiles]) for smiles in batch])
    assert np.abs(encoder.encode_molecules(batch) - alone).max() < 1e-5
