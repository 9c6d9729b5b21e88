"""Encodes the inputs of several searches together, such that an input at fault fails alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from server.domain.errors import AtomasError, Reason
from server.ports import Parts, Vector

Encode: TypeAlias = Callable[[Sequence[str], float | None], Sequence[tuple[Vector, Parts]]]

# Refusals that one of several inputs may cause; any other would come again.
_OF_ONE_INPUT = (Reason.EMPTY_QUERY, Reason.TEXT_TOO_LONG, Reason.TOO_LARGE)


def without_parts(encode: Callable[[Sequence[str], float | None], NDArray[np.float32]]) -> Encode:
    """An encoder of vectors alone, as one that gives parts too."""
    return lambda inputs, timeout_seconds: [(vector, Parts.none()) for vector in encode(inputs, timeout_seconds)]


def encode_each(encode: Encode, inputs: list[str], timeout_seconds: float | None) -> Mapping[str, tuple[Vector, Parts] | AtomasError]:
    """What each input became, or why it became nothing: one that is at fault fails alone."""
    if not inputs:
        return {}
    try:
        return dict(zip(inputs, encode(inputs, timeout_seconds), strict=True))
    except AtomasError as error:
        if len(inputs) == 1 or error.reason not in _OF_ONE_INPUT:
            return dict.fromkeys(inputs, error)
    # One of them is at fault; halving finds it with few calls more.
    middle = len(inputs) // 2
    parts = (encode_each(encode, inputs[:middle], timeout_seconds), encode_each(encode, inputs[middle:], timeout_seconds))
    return {**parts[0], **parts[1]}
