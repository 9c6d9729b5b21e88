"""The port of the model's encoder: texts and molecules to vectors of one space."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.domain.explanations import Explanation
from server.domain.models import ModelVersion
from server.ports.vectors import Parts, Vector


class Encoder(Protocol):
    """Texts and molecules to unit vectors of one space. Thread-safe; concurrent calls share forward passes."""

    @property
    def model(self) -> ModelVersion: ...

    def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) float32. Raises TEXT_TOO_LONG, EMPTY_QUERY, OVERLOADED, DEADLINE_EXCEEDED."""
        ...

    def encode_molecules(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) float32 for SMILES that passed the chemistry door. Raises TOO_LARGE, OVERLOADED, DEADLINE_EXCEEDED."""
        ...

    def encode_texts_and_phrases(self, texts: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """The vector of each text, as `encode_texts` gives it, and its phrases: none where `model.fragment_dimension` is 0. Raises as it does."""
        ...

    def encode_molecules_and_fragments(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """As `encode_texts_and_phrases`, of molecules as `encode_molecules` takes them."""
        ...

    def explain(self, text: str, smiles: str, timeout_seconds: float | None = None) -> Explanation:
        """Which words of the text point at which atoms of the canonical SMILES. Raises as the other two."""
        ...

    def text_tokens(self, text: str) -> int:
        """Length of a text as the model counts it, to compare with `model.max_tokens`."""
        ...

    def molecule_tokens(self, smiles: str) -> int:
        """As `text_tokens`, of a molecule."""
        ...
