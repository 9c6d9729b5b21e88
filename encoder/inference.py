"""Texts and molecules in, normalised vectors out: the trained encoder as the service uses it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoder.checkpoint import DEFAULT_WEIGHTS, Checkpoint, load_checkpoint
from encoder.explanation import Explanation, explain
from encoder.levels import ItemLevels, ItemParts, split_levels, split_parts
from encoder.manifest import molecule_tokens, text_tokens
from encoder.model.atomas import TokenBatch
from encoder.model.config import Modality

# Tokens of one forward pass, padding included: enough to keep the matrix products busy, little enough to stay in cache.
_PASS_TOKENS = 16_384


class EmptyInputError(ValueError):
    """A text or a SMILES without anything in it."""


class TooLongError(ValueError):
    """An input with more tokens than the model reads; it is refused, never cut."""


class Encoder:
    """A checkpoint ready to encode. Not thread-safe: one thread owns it (see `encoder.batching`), the token counts excepted."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @classmethod
    def load(cls, path: Path | None = None, threads: int | None = None) -> "Encoder":
        """Load a checkpoint folder, by default the shipped one; raises `CheckpointError`.

        `threads` sets the processor threads that torch uses in this process.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        return cls(load_checkpoint(path or DEFAULT_WEIGHTS))

    @property
    def version(self) -> str:
        """Hash of weights, configuration, features and molecule standard: vectors of different versions cannot be compared."""
        return self._checkpoint.version

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._checkpoint.model.config.dimension

    @property
    def max_tokens(self) -> int:
        """Longest text or molecule, in tokens."""
        return self._checkpoint.model.config.max_tokens

    def text_tokens(self, text: str) -> int:
        """Count the tokens of a text: words, numbers, signs. May be called from any thread."""
        return text_tokens(text)

    def molecule_tokens(self, smiles: str) -> int:
        """Count the tokens of a molecule: its SMILES tokens and one for the whole. May be called from any thread."""
        return molecule_tokens(smiles)

    @property
    def has_hierarchy(self) -> bool:
        """Whether the checkpoint holds the levels of words and atoms, phrases and fragments, texts and molecules."""
        return self._checkpoint.model.hierarchy is not None

    @property
    def fragment_dimension(self) -> int:
        """Length of the vector of a phrase or a fragment; 0 without a hierarchy."""
        return self._checkpoint.model.config.hierarchy_width

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors (N, dimension) of length 1. EmptyInputError or TooLongError name the first text that cannot be encoded."""
        return self._encode("text", texts, self._text_lengths(texts))

    def encode_molecules(self, smiles: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors (N, dimension) of length 1 for canonical SMILES as `encoder.molecules` gives them.

        EmptyInputError, TooLongError or ValueError name the first molecule that cannot be encoded.
        """
        return self._encode("molecule", smiles, self._molecule_lengths(smiles))

    def texts_and_phrases(self, texts: Sequence[str]) -> list[tuple[NDArray[np.float32], ItemParts]]:
        """Return the vector of each text, as `encode_texts` gives it, and its phrases; raises as it does, and ValueError without a hierarchy."""
        return self._in_parts("text", texts, self._text_lengths(texts))

    def molecules_and_fragments(self, smiles: Sequence[str]) -> list[tuple[NDArray[np.float32], ItemParts]]:
        """Return the vector of each canonical SMILES, as `encode_molecules` gives it, and its fragments; raises as `texts_and_phrases`."""
        return self._in_parts("molecule", smiles, self._molecule_lengths(smiles))

    def text_levels(self, texts: Sequence[str]) -> list[ItemLevels]:
        """Return the levels of the hierarchy of each text; raises as `encode_texts`, and ValueError without a hierarchy."""
        return self._levels("text", texts, self._text_lengths(texts))

    def molecule_levels(self, smiles: Sequence[str]) -> list[ItemLevels]:
        """Return the levels of the hierarchy of each canonical SMILES; raises as `encode_molecules`, and ValueError without a hierarchy."""
        return self._levels("molecule", smiles, self._molecule_lengths(smiles))

    def explain(self, text: str, smiles: str) -> Explanation:
        """Tell why a text finds a molecule, given as canonical SMILES; raises as `encode_texts` and `encode_molecules`."""
        lengths = self._text_lengths([text]), self._molecule_lengths([smiles])
        if not self.has_hierarchy:
            return explain(self._checkpoint, text, smiles)
        levels = self._levels("text", [text], lengths[0])[0], self._levels("molecule", [smiles], lengths[1])[0]
        return explain(self._checkpoint, text, smiles, *levels)

    def _text_lengths(self, texts: Sequence[str]) -> list[int]:
        lengths = [self.text_tokens(text) for text in texts]
        for text, length in zip(texts, lengths, strict=True):
            if not length:
                raise EmptyInputError("the text is empty; write what to search for")
            self._refuse_long(length, "text", text)
        return lengths

    def _molecule_lengths(self, smiles: Sequence[str]) -> list[int]:
        lengths = [self.molecule_tokens(text) for text in smiles]
        for text, length in zip(smiles, lengths, strict=True):
            if not text.strip():
                raise EmptyInputError("the SMILES is empty")
            self._refuse_long(length, "molecule", text)
        return lengths

    def _refuse_long(self, length: int, what: str, item: str) -> None:
        if length > self.max_tokens:
            raise TooLongError(f"the {what} has {length} tokens, the model reads at most {self.max_tokens}; it begins with {item[:40]!r}")

    def _encode(self, modality: Modality, items: Sequence[str], lengths: list[int]) -> NDArray[np.float32]:
        vectors = np.empty((len(items), self.dimension), dtype=np.float32)
        for rows in group_by_length(lengths):
            batch = self._batch(modality, [items[row] for row in rows])
            with torch.inference_mode():
                vectors[rows] = self._checkpoint.model.vectors(modality, batch).numpy()
        return vectors

    def _levels(self, modality: Modality, items: Sequence[str], lengths: list[int]) -> list[ItemLevels]:
        found: dict[int, ItemLevels] = {}
        model = self._checkpoint.model
        for rows in group_by_length(lengths):
            batch = self._batch(modality, [items[row] for row in rows])
            with torch.inference_mode():
                levels = model.levels(modality, model(modality, batch))
            found.update(zip(rows, split_levels(levels, [lengths[row] for row in rows]), strict=True))
        return [found[row] for row in range(len(items))]

    def _in_parts(self, modality: Modality, items: Sequence[str], lengths: list[int]) -> list[tuple[NDArray[np.float32], ItemParts]]:
        found: dict[int, tuple[NDArray[np.float32], ItemParts]] = {}
        for rows in group_by_length(lengths):
            batch = self._batch(modality, [items[row] for row in rows])
            with torch.inference_mode():
                vectors_BE, level = self._checkpoint.model.vectors_and_fragments(modality, batch)
            found.update(zip(rows, zip(vectors_BE.numpy(), split_parts(level), strict=True), strict=True))
        return [found[row] for row in range(len(items))]

    def _batch(self, modality: Modality, items: list[str]) -> TokenBatch:
        features = self._checkpoint.text_features if modality == "text" else self._checkpoint.molecule_features
        return TokenBatch.from_features(features(items))


def group_by_length(lengths: list[int]) -> list[list[int]]:
    """Group items of like length, so that little of a padded pass is padding."""
    passes: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        # Sorted downwards, the first item of a pass sets its padded length.
        if not passes or (len(passes[-1]) + 1) * lengths[passes[-1][0]] > _PASS_TOKENS:
            passes.append([])
        passes[-1].append(row)
    return passes
