"""The encoder in this process: one thread owns the model, concurrent callers share its forward passes."""

import concurrent.futures
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder import explanation
from encoder.batching import BatcherFullError, TokenBudgetBatcher
from encoder.inference import EmptyInputError, Encoder, TooLongError
from server.domain.abandonment import stopping
from server.domain.errors import AtomasError, Reason
from server.domain.explanations import AlignedLevel, Cluster, Explanation, Phrase
from server.domain.models import ModelVersion
from server.ports import Parts, Vector

Answer = TypeVar("Answer")

# Without a deadline of its own a call still must not wait for ever on a thread that died.
PATIENCE_SECONDS = 600.0


class LocalEncoder:
    """The Encoder port on a model of this process."""

    def __init__(self, encoder: Encoder, batcher: TokenBudgetBatcher, molecule_standard: str) -> None:
        self._encoder = encoder
        self._batcher = batcher
        self._model = ModelVersion(encoder.version, encoder.dimension, molecule_standard, encoder.max_tokens, encoder.fragment_dimension)

    @property
    def model(self) -> ModelVersion:
        return self._model

    def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) unit vectors."""
        return self._stacked(
            self._together("text", self._encoder.encode_texts, texts, self.text_tokens, Reason.TEXT_TOO_LONG, timeout_seconds)
        )

    def encode_molecules(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        """(N, dimension) unit vectors."""
        return self._stacked(
            self._together("molecule", self._encoder.encode_molecules, smiles, self.molecule_tokens, Reason.TOO_LARGE, timeout_seconds)
        )

    def encode_texts_and_phrases(self, texts: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """A unit vector and the phrases of each text; no phrases where the model has no hierarchy."""
        if not self._model.fragment_dimension:
            return [(vector, Parts.none()) for vector in self.encode_texts(texts, timeout_seconds)]
        found = self._together(
            "text and phrases", self._encoder.texts_and_phrases, texts, self.text_tokens, Reason.TEXT_TOO_LONG, timeout_seconds
        )
        return [(vector, Parts(parts.vectors_KD, parts.weights_K)) for vector, parts in found]

    def encode_molecules_and_fragments(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        """A unit vector and the fragments of each molecule; no fragments where the model has no hierarchy."""
        if not self._model.fragment_dimension:
            return [(vector, Parts.none()) for vector in self.encode_molecules(smiles, timeout_seconds)]
        found = self._together(
            "molecule and fragments", self._encoder.molecules_and_fragments, smiles, self.molecule_tokens, Reason.TOO_LARGE, timeout_seconds
        )
        return [(vector, Parts(parts.vectors_KD, parts.weights_K)) for vector, parts in found]

    def explain(self, text: str, smiles: str, timeout_seconds: float | None = None) -> Explanation:
        """Runs on the model's thread, between batches."""
        cost = self.text_tokens(text) + self.molecule_tokens(smiles)
        deadline = time.monotonic() + (PATIENCE_SECONDS if timeout_seconds is None else timeout_seconds)
        # Which of the two is too long has to be known here: the model's refusal does not say it in a way that programs read.
        too_long = Reason.TEXT_TOO_LONG if self.text_tokens(text) > self._model.max_tokens else Reason.TOO_LARGE
        with _refusals(too_long):
            future = self._batcher.submit_work(lambda: self._encoder.explain(text, smiles), cost, deadline)
            try:
                with stopping(future.cancel):
                    return _plain(future.result(max(0.0, deadline - time.monotonic())))
            finally:
                future.cancel()

    def text_tokens(self, text: str) -> int:
        return self._encoder.text_tokens(text)

    def molecule_tokens(self, smiles: str) -> int:
        return self._encoder.molecule_tokens(smiles)

    def close(self) -> None:
        """Returns when the model's thread has ended."""
        self._batcher.close()

    def _stacked(self, vectors: Sequence[Vector]) -> NDArray[np.float32]:
        return np.stack(vectors) if vectors else np.zeros((0, self._model.dimension), np.float32)

    def _together(
        self,
        kind: str,
        encode: Callable[[Sequence[str]], Iterable[Answer]],
        items: Sequence[str],
        cost: Callable[[str], int],
        too_long: Reason,
        timeout_seconds: float | None,
    ) -> list[Answer]:
        """One answer for each item, in order; items of several callers share passes of the model."""
        deadline = time.monotonic() + (PATIENCE_SECONDS if timeout_seconds is None else timeout_seconds)
        futures: list[concurrent.futures.Future[Answer]] = []
        with _refusals(too_long):
            try:
                for item in items:
                    futures.append(self._batcher.submit_to(kind, encode, item, cost(item), deadline))
                # Of a caller who has left nothing is encoded that does not lie before the model already.
                with stopping(lambda: [future.cancel() for future in futures]):
                    return [future.result(max(0.0, deadline - time.monotonic())) for future in futures]
            finally:
                for future in futures:
                    future.cancel()


@contextmanager
def _refusals(too_long: Reason) -> Iterator[None]:
    """The encoder's and the batcher's refusals as reasons."""
    try:
        yield
    except TooLongError as error:
        raise AtomasError(too_long, str(error)) from None
    except EmptyInputError as error:
        raise AtomasError(Reason.EMPTY_QUERY, str(error)) from None
    except BatcherFullError:
        raise AtomasError(Reason.OVERLOADED, "The encoder has more work than it can queue. Try again in a moment.") from None
    except (TimeoutError, concurrent.futures.CancelledError):
        raise AtomasError(Reason.DEADLINE_EXCEEDED, "The deadline passed before the query was encoded.") from None


def _plain(found: explanation.Explanation) -> Explanation:
    return Explanation(
        found.score,
        tuple(Phrase(*phrase.span, phrase.weight, tuple(phrase.atom_weights.tolist())) for phrase in found.phrases),
        tuple(
            AlignedLevel(
                level.name,
                tuple(_plain_cluster(cluster) for cluster in level.text_clusters),
                tuple(_plain_cluster(cluster) for cluster in level.molecule_clusters),
                tuple(level.similarities.ravel().tolist()),
            )
            for level in found.levels
        ),
    )


def _plain_cluster(cluster: explanation.Cluster) -> Cluster:
    return Cluster(tuple(itertools.chain.from_iterable(cluster.spans)), cluster.atoms, cluster.weight)
