"""The port of the model's decoder, and what it is shown and writes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Shown:
    """A compound that the decoder is shown: its name or its text may be missing."""

    smiles: str
    name: str = ""
    text: str = ""


@dataclass(frozen=True)
class Written:
    """A SMILES or a text as the decoder wrote it, looked at by nobody, with the natural logarithm of its probability."""

    content: str
    log_probability: float


class Generator(Protocol):
    """The decoder of a model. Thread-safe; work of several callers takes turns.

    Raises MODEL_NOT_READY where the model has no decoder, ENCODER_UNAVAILABLE where its checkpoint is not here, TEXT_TOO_LONG, TOO_LARGE,
    EMPTY_QUERY; gives what it has and ends when `stopped` says so, which is asked before every token.
    """

    def propose(
        self, model: str, text: str, count: int, seed: int, shown: Sequence[Shown], stopped: Callable[[], bool]
    ) -> Iterator[Sequence[Written]]:
        """SMILES for a text as they are drawn, some at a time, `count` in all: the likeliest few, then draws. Same seed, same SMILES."""
        ...

    def describe(self, model: str, smiles: str, count: int, shown: Sequence[Shown], stopped: Callable[[], bool]) -> Sequence[Written]:
        """Texts for a molecule, best first, `count` of them at most; none when stopped. Always the same."""
        ...
