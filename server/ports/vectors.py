"""What encoders make and indexes compare: vectors, weighted words, fragments and phrases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]
# Words as numbers of 32 bits with their weights: what the lexical leg compares.
Words: TypeAlias = Mapping[int, float]


@dataclass(frozen=True)
class Parts:
    """Fragments of a molecule, or phrases of a text: what the model's hierarchy compares."""

    # (K, fragment dimension), of length 1.
    vectors: NDArray[np.float32]
    # (K,): how much each says; they sum to one.
    weights: NDArray[np.float32]

    @classmethod
    def none(cls) -> "Parts":
        """Of an item whose model has no hierarchy."""
        return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))

    def __bool__(self) -> bool:
        return len(self.weights) > 0
