"""Pieces of bytes in one block are what they were, wherever they are moved."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.adapters.packed_bytes import PackedBytes

PIECES = st.lists(st.binary(max_size=20), max_size=12)


@given(PIECES, PIECES)
def test_pieces_are_chosen_and_joined_as_in_a_list(first: list[bytes], second: list[bytes]) -> None:
    packed = PackedBytes.joined([PackedBytes.of(first), PackedBytes.of(second)])
    whole = [*first, *second]
    assert [packed[row] for row in range(len(packed))] == whole
    assert packed.lengths.tolist() == [len(piece) for piece in whole]
    rows = [*range(len(whole) - 1, -1, -2), *range(len(whole))]
    chosen = packed.chosen(np.array(rows, np.intp))
    assert [chosen[row] for row in range(len(chosen))] == [whole[row] for row in rows]
