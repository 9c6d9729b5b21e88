"""Bring the vector index in line with SQL: encode what exists, remove what does not."""

import uuid
from collections.abc import Sequence

from server.domain.compounds import Compound, JsonValue, point_id
from server.domain.documents import document_of
from server.domain.errors import AtomasError
from server.domain.models import ModelState
from server.domain.operations import ChunkState, State
from server.domain.search import Leg
from server.ports import Encoder, Point, Ports, Vector
from server.usecases.bring_in_line import bring_in_line
from server.usecases.filter_fields import derived_fields
from server.usecases.index_structures import index_structures
from server.usecases.live_models import live_models
from server.usecases.words import document_words

SEPARATOR = "; "


def embed_chunk(operation_id: str, number: int, ports: Ports) -> None:
    """Indexes the compounds that a chunk changed and completes the operation with its last chunk. Idempotent."""
    with ports.database.reading() as transaction:
        operation = transaction.operations.get(operation_id)
        chunk = transaction.operations.chunk(operation_id, number)
    if chunk.state is not ChunkState.READ:
        return
    shortened = index_compounds(operation.library, chunk.changed, ports)
    with ports.database.transaction() as transaction:
        transaction.operations.lock(operation_id)
        transaction.operations.mark_indexed(operation_id, number, shortened)
    complete(operation_id, ports)


def complete(operation_id: str, ports: Ports) -> None:
    """Ends an operation as succeeded once all its rows were received and can be found."""
    with ports.database.transaction() as transaction:
        operation = transaction.operations.lock(operation_id)
        if operation.state is State.PROCESSING and transaction.operations.all_indexed(operation_id):
            transaction.operations.set_state(operation_id, State.SUCCEEDED)


def index_compounds(library: str, inchikeys: Sequence[str], ports: Ports, model: str = "") -> int:
    """Makes the index of every live model agree with the compounds as they are now, or that of one; returns how many texts the serving
    model reads shortened.

    Nobody waits for a model that does not answer: what its index lacks the sweep finds.
    """
    if not model:
        index_structures(library, inchikeys, ports)
    shortened = 0
    done: set[str] = set()
    # Looked up again at the end: a fill that began meanwhile may have passed these compounds already.
    while fresh := [stored for stored in live_models(ports) if stored.version not in done and model in ("", stored.version)]:
        for stored in fresh:
            done.add(stored.version)
            try:
                count = _index_for_model(library, inchikeys, ports.with_model(stored.version))
            except AtomasError:
                if model or stored.state is ModelState.SERVING:
                    raise
                continue
            if stored.state is ModelState.SERVING:
                shortened = count
            elif stored.state is ModelState.FILLING:
                with ports.database.transaction() as transaction:
                    transaction.models.add_filled(stored.version, stored.fill, len(inchikeys))
    return shortened


def _index_for_model(library: str, inchikeys: Sequence[str], ports: Ports) -> int:
    """Makes one index agree; returns how many texts had to be shortened."""
    shortened = 0

    def write(compounds: Sequence[Compound], gone: Sequence[uuid.UUID]) -> str:
        nonlocal shortened
        shortened += _write(library, compounds, ports)
        ports.index.delete(gone)
        ports.index.flush()
        return ports.index.model_version

    bring_in_line(library, inchikeys, write, ports)
    return shortened


def _write(library: str, compounds: Sequence[Compound], ports: Ports) -> int:
    """Encodes and upserts; returns how many texts had to be shortened."""
    if not compounds:
        return 0
    texts = [searchable_text(compound, ports.encoder) for compound in compounds]
    with_text = [i for i, (text, _) in enumerate(texts) if text]
    molecules = ports.encoder.encode_molecules_and_fragments([compound.structure.smiles for compound in compounds])
    text_vectors = dict(zip(with_text, ports.encoder.encode_texts([texts[i][0] for i in with_text]), strict=True)) if with_text else {}
    points = []
    for i, compound in enumerate(compounds):
        vector, fragments = molecules[i]
        vectors: dict[Leg, Vector] = {Leg.MOLECULES: vector}
        if i in text_vectors:
            vectors[Leg.TEXTS] = text_vectors[i]
        words = document_words(compound, keywords(compound))
        points.append(
            Point(
                point_id(library, compound.inchikey),
                library,
                vectors,
                fields_of(compound),
                document_of(compound),
                words,
                fragments.vectors if fragments else None,
            )
        )
    ports.index.upsert(points)
    return sum(shortened for _, shortened in texts)


def searchable_text(compound: Compound, encoder: Encoder) -> tuple[str, bool]:
    """What is said of a compound: descriptions, names, keywords, as much as the model reads; and whether something was left out.

    Whole pieces are kept while they fit; a first description that is too long alone is cut at words.
    """
    names = [name for name in (compound.display_name, *compound.synonyms) if name]
    pieces = [*compound.descriptions, *names, *keywords(compound)]
    limit = encoder.model.max_tokens
    whole = SEPARATOR.join(pieces)
    if not whole or encoder.text_tokens(whole) <= limit:
        return whole, False
    kept: list[str] = []
    for piece in pieces:
        if encoder.text_tokens(SEPARATOR.join([*kept, piece])) <= limit:
            kept.append(piece)
    return SEPARATOR.join(kept) or _cut(pieces[0], encoder), True


def keywords(compound: Compound) -> list[str]:
    """The words that metadata lists, such as roles and classes; single values are rather codes and remarks than words to search."""
    lists = (value for value in compound.metadata.values() if isinstance(value, list))
    return list(dict.fromkeys(item for value in lists for item in value if isinstance(item, str) and item))


def _cut(text: str, encoder: Encoder) -> str:
    """The longest beginning of whole words that the model reads."""
    words = text.split()
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if encoder.text_tokens(" ".join(words[:middle])) <= encoder.model.max_tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


def fields_of(compound: Compound) -> dict[str, JsonValue]:
    """What filters can ask of a compound."""
    fields: dict[str, JsonValue] = {"id": list(compound.source_ids), **compound.structure.descriptors, **derived_fields(compound)}
    for name, value in compound.metadata.items():
        values = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str | int | float)]
        if values:
            fields[f"metadata.{name}"] = list(values)
    return fields
