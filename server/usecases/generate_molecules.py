"""Molecules that a text describes: proposed by the decoder, through the chemistry door, each once, filtered, beside what the library knows."""

import secrets
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from encoder.molecules import Molecule, MoleculeError
from encoder.molecules import Structure as Spelling
from server.domain.compounds import Structure
from server.domain.documents import compound_of
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Filter
from server.domain.generation import ID_PREFIX, Candidate, Drop, Generation, GenerationRequest, Task
from server.domain.search import Leg
from server.jobs import Generate
from server.ports import Generator, Ports, Shown, Vector, Written
from server.usecases.candidate_filter import candidate_filter, check_structures, passing
from server.usecases.import_compounds import structure_of
from server.usecases.known_compounds import as_known, known_keys, nearest_compounds, stored_compounds
from server.usecases.understand_query import checked_text

if TYPE_CHECKING:
    from server.usecases.run_generation import HeldGeneration

DEFAULT_COUNT, MAX_COUNT = 20, 100
# Attempts for each wanted molecule: enough for a filter that lets one in ten pass.
ATTEMPTS_EACH, MAX_ATTEMPTS = 20, 5_000
MAX_SEED = 2**63 - 1
# Known compounds that a candidate is shown beside.
NEAREST = 3
# Molecules near the text of which the decoder chooses what it reads.
_SHOWN = 8
# SMILES that one question to the decoder gives at most; more are asked for with further seeds.
_PER_QUESTION = 200
_NEXT_SEED = 0x9E3779B97F4A7C15


def start_generation(request: GenerationRequest, ports: Ports) -> Generation:
    """Makes the generation durable and sends it to whoever generates."""
    generation = Generation(ID_PREFIX + uuid.uuid4().hex, request)
    with ports.database.transaction() as transaction:
        transaction.generations.add(generation)
        generation = transaction.generations.get(generation.id)
    ports.queue.send(Generate(generation.id))
    return generation


def start_molecules(request: GenerationRequest, ports: Ports, max_text_characters: int) -> Generation:
    """Checks a request for molecules and starts it; zeros become the defaults.

    Raises EMPTY_QUERY, TEXT_TOO_LONG, TOO_MANY_ITEMS, INVALID_ARGUMENT, LIBRARY_NOT_FOUND, INVALID_FILTER, UNKNOWN_FIELD, INVALID_SMARTS.
    """
    text = checked_text(request.source, max_text_characters)
    tokens, most = ports.encoder.text_tokens(text), ports.encoder.model.max_tokens
    if tokens > most:
        raise AtomasError(Reason.TEXT_TOO_LONG, f"The text has {tokens:,} tokens; the model reads up to {most:,}. Shorten it.")
    count = request.count or DEFAULT_COUNT
    if count > MAX_COUNT:
        raise AtomasError(Reason.TOO_MANY_ITEMS, f"{count:,} molecules were asked for; one generation gives 1 to {MAX_COUNT}.")
    if count < 0 or request.max_attempts < 0:
        raise AtomasError(Reason.INVALID_ARGUMENT, "The count and the attempts cannot be negative; 0 stands for the default.")
    attempts = request.max_attempts or ATTEMPTS_EACH * count
    if not count <= attempts <= MAX_ATTEMPTS:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, f"{attempts:,} attempts were allowed; {count} molecules need {count} to {MAX_ATTEMPTS:,}."
        )
    check_structures(candidate_filter(request.filter), ports)
    require_libraries(request, ports)
    settled = {**vars(request), "source": text, "count": count, "max_attempts": attempts, "seed": checked_seed(request.seed)}
    return start_generation(GenerationRequest(**settled), ports)


def require_libraries(request: GenerationRequest, ports: Ports) -> None:
    """Raises LIBRARY_NOT_FOUND."""
    with ports.database.reading() as transaction:
        for library in request.libraries or ():
            transaction.libraries.get(library)


def checked_seed(seed: int) -> int:
    """The seed, or a random one for 0. Raises INVALID_ARGUMENT."""
    if seed < 0:
        raise AtomasError(Reason.INVALID_ARGUMENT, f"A seed of {seed} cannot be used: give a positive number, or 0 to have one chosen.")
    return seed or secrets.randbelow(2**53) + 1


def require_generator(ports: Ports) -> Generator:
    """Raises MODEL_NOT_READY in a process that does not generate."""
    if ports.generator is None:
        raise AtomasError(Reason.MODEL_NOT_READY, "This process does not generate. Start a worker: `python -m workers --queues generate`.")
    return ports.generator


def find_molecules(held: "HeldGeneration", ports: Ports) -> int:
    """Proposes until enough molecules are kept, the attempts are used up, or it is stopped; returns how many are kept."""
    request = held.request
    libraries = request.libraries
    filter = candidate_filter(request.filter)
    [vector] = ports.encoder.encode_texts([request.source])
    shown = _shown(held, vector, libraries, ports)
    # A worker before this one may have found some: the same attempts find them again.
    former = [found for found in held.former_findings() if isinstance(found, Candidate)]
    stored = {found.inchikey for found in former}
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    attempted = kept = 0
    written_down = len(former)
    for written in _attempts(request, shown, held, ports):
        verdicts = _judge(written, seen, filter, ports)
        fresh: list[tuple[Written, Structure]] = []
        for each, verdict in zip(written, verdicts, strict=True):
            attempted += 1
            if isinstance(verdict, str):
                dropped[verdict] += 1
                continue
            kept += 1
            if verdict.inchikey not in stored:
                fresh.append((each, verdict))
            if kept == request.count:
                break
        found = _candidates(fresh, vector, libraries, ports)
        held.keep(written_down, found, attempted, kept, dropped)
        written_down += len(found)
        if kept == request.count:
            break
    return kept


def _attempts(request: GenerationRequest, shown: Sequence[Shown], held: "HeldGeneration", ports: Ports) -> Iterator[Sequence[Written]]:
    generator, left, seed = require_generator(ports), request.max_attempts, request.seed
    while left > 0 and not held.stopped():
        asked = min(left, _PER_QUESTION)
        before = left
        for written in generator.propose(request.model, request.source, asked, seed, shown, held.stopped):
            left -= len(written)
            yield written
        if left == before:
            return
        seed = (seed + _NEXT_SEED) % MAX_SEED


def _judge(written: Sequence[Written], seen: set[str], filter: Filter | None, ports: Ports) -> list[str | Structure]:
    """The molecule of each attempt, or the reason why it is dropped; `seen` grows by the molecules that are new."""
    door = ports.chemistry.standardise_many([Spelling("smiles", each.content) for each in written])
    verdicts: list[str | Structure] = [_verdict(molecule, seen, ports) for molecule in door]
    fresh = [verdict for verdict in verdicts if isinstance(verdict, Structure)]
    refused = {structure.inchikey for structure, passes in zip(fresh, passing(filter, fresh, ports), strict=True) if not passes}
    return [Drop.FILTERED if isinstance(verdict, Structure) and verdict.inchikey in refused else verdict for verdict in verdicts]


def _verdict(molecule: Molecule | MoleculeError, seen: set[str], ports: Ports) -> str | Structure:
    if isinstance(molecule, MoleculeError):
        return str(Reason(molecule.reason))
    if molecule.inchikey in seen:
        return Drop.DUPLICATE
    seen.add(molecule.inchikey)
    if ports.encoder.molecule_tokens(molecule.smiles) > ports.encoder.model.max_tokens:
        return str(Reason.TOO_LARGE)
    return structure_of(molecule)


def _candidates(
    fresh: Sequence[tuple[Written, Structure]], vector: Vector, libraries: Sequence[str] | None, ports: Ports
) -> list[Candidate]:
    if not fresh:
        return []
    vectors = ports.encoder.encode_molecules([structure.smiles for _, structure in fresh])
    known = known_keys([structure.inchikey for _, structure in fresh], libraries, ports)
    return [
        Candidate(
            structure.smiles,
            structure.inchikey,
            written.log_probability,
            float(own @ vector),
            structure.inchikey in known,
            tuple(as_known(*near) for near in nearest_compounds(structure, own, NEAREST, libraries, ports)),
            structure.descriptors,
        )
        for (written, structure), own in zip(fresh, vectors, strict=True)
    ]


def _shown(held: "HeldGeneration", vector: Vector, libraries: Sequence[str] | None, ports: Ports) -> list[Shown]:
    """Molecules of the library near the text; those that a worker before this one had chosen, so that the draws are the same."""
    if held.request.ignore_library or held.request.task is not Task.MOLECULES:
        return []
    if held.neighbours:
        return [Shown(compound.structure.smiles) for compound in stored_compounds(held.neighbours, ports)]
    [near] = ports.index.search(Leg.MOLECULES, [vector], _SHOWN, libraries)
    documents = ports.index.documents([point.id for point in near])
    compounds = [compound_of(documents[point.id]) for point in near if point.id in documents]
    held.show([as_known(compound, 0.0) for compound in compounds])
    return [Shown(compound.structure.smiles) for compound in compounds]
