"""Vectors for those who search elsewhere: each item succeeds or fails alone."""

import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from encoder.molecules import MoleculeError, Structure
from server.domain.errors import AtomasError, Reason
from server.jobs import EncodeAnswer, EncodeItems, pack_vectors
from server.ports import Parts, Ports, Vector
from server.usecases.search_compounds import checked_text

MAX_ITEMS = 1_000


def embed_texts(
    texts: Sequence[str], ports: Ports, *, max_text_characters: int, timeout_seconds: float | None = None
) -> list[Vector | AtomasError]:
    """One vector or one refusal per text, in order. Raises TOO_MANY_ITEMS, EMPTY_QUERY when there is none."""
    _check_count(len(texts), "texts")
    return _each(
        texts,
        lambda text: checked_text(text, max_text_characters),
        lambda ready: ports.encoder.encode_texts(ready, timeout_seconds),
    )


def embed_structures(structures: Sequence[str], ports: Ports, *, timeout_seconds: float | None = None) -> list[Vector | AtomasError]:
    """One vector or one refusal per structure, in order. Raises TOO_MANY_ITEMS, EMPTY_QUERY when there is none."""
    _check_count(len(structures), "structures")
    results = iter(ports.chemistry.standardise_many([Structure("auto", structure) for structure in structures]))

    def standardised(_: str) -> str:
        result = next(results)
        if isinstance(result, MoleculeError):
            raise AtomasError(Reason(result.reason), result.message)
        return result.smiles

    return _each(structures, standardised, lambda ready: ports.encoder.encode_molecules(ready, timeout_seconds))


def answer_question(question: EncodeItems, timeout_seconds: float, ports: Ports) -> EncodeAnswer:
    """What a worker says to a server that needs vectors; a refusal is an answer too."""
    try:
        encoder = ports.models.encoder(question.model)
    except AtomasError as error:
        if error.reason is not Reason.MODEL_NOT_FOUND:
            return EncodeAnswer(reason=error.reason, message=error.message)
        # Whoever asked has that model: it is this worker that lacks it, and another may answer.
        message = f"A worker was asked for model {question.model} and has {ports.encoder.model.version}: both must use one database."
        return EncodeAnswer(reason=Reason.ENCODER_UNAVAILABLE, message=message)
    try:
        if question.kind == "explanation":
            text, smiles = question.items
            return EncodeAnswer(explanation=json.dumps(encoder.explain(text, smiles, timeout_seconds).to_json()))
        if question.kind in ("text and phrases", "molecule and fragments"):
            both = encoder.encode_texts_and_phrases if question.kind == "text and phrases" else encoder.encode_molecules_and_fragments
            return _in_parts(both(question.items, timeout_seconds))
        encode = encoder.encode_texts if question.kind == "text" else encoder.encode_molecules
        return EncodeAnswer(vectors=pack_vectors(encode(question.items, timeout_seconds)))
    except AtomasError as error:
        return EncodeAnswer(reason=error.reason, message=error.message)


def _in_parts(encoded: Sequence[tuple[Vector, Parts]]) -> EncodeAnswer:
    parts = [parts for _, parts in encoded]
    return EncodeAnswer(
        vectors=pack_vectors(np.stack([vector for vector, _ in encoded])),
        parts=pack_vectors(np.concatenate([part.vectors for part in parts])),
        part_counts=tuple(len(part.weights) for part in parts),
        part_weights=pack_vectors(np.concatenate([part.weights for part in parts])),
    )


def _check_count(count: int, what: str) -> None:
    if count == 0:
        raise AtomasError(Reason.EMPTY_QUERY, f"No {what} were given.")
    if count > MAX_ITEMS:
        raise AtomasError(Reason.TOO_MANY_ITEMS, f"{count} {what} in one call; send at most {MAX_ITEMS}.")


def _each(
    items: Sequence[str], prepare: Callable[[str], str], encode: Callable[[Sequence[str]], NDArray[np.float32]]
) -> list[Vector | AtomasError]:
    """Encodes what can be prepared in one go; when the batch is refused, one by one, so that a bad item fails alone."""
    results: dict[int, Vector | AtomasError] = {}
    ready: dict[int, str] = {}
    for i, item in enumerate(items):
        try:
            ready[i] = prepare(item)
        except AtomasError as error:
            results[i] = error
    try:
        results |= dict(zip(ready, encode(list(ready.values())), strict=True)) if ready else {}
    except AtomasError as error:
        if error.reason not in (Reason.TEXT_TOO_LONG, Reason.TOO_LARGE, Reason.EMPTY_QUERY):
            raise
        for i, item in ready.items():
            try:
                results[i] = encode([item])[0]
            except AtomasError as alone:
                results[i] = alone
    return [results[i] for i in range(len(items))]
