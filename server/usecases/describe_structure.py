"""Words for a molecule: written by the decoder beside the texts of alike compounds, which are cited, and held against what can be counted."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from encoder.facts import Facts
from encoder.molecules import Structure as Spelling
from encoder.prose import Manner, manner_of, normalise
from server.domain.compounds import Compound
from server.domain.errors import AtomasError, Reason
from server.domain.generation import Description, Drop, Generation, GenerationRequest, KnownCompound
from server.ports import Ports, Shown
from server.usecases.checked_facts import check_text
from server.usecases.generate_molecules import checked_seed, require_generator, require_libraries, start_generation
from server.usecases.import_compounds import structure_of
from server.usecases.known_compounds import as_known, nearest_compounds, stored_compounds
from server.usecases.resolve_structures import read_molecule

if TYPE_CHECKING:
    from server.usecases.run_generation import HeldGeneration

MAX_COUNT = 10
# Neighbours that the decoder reads with their whole text, and those of which it reads name and classes: as many as it was trained with.
DETAILED, BRIEF = 2, 3
# Neighbours among which those with something to say are found.
_LOOKED_AT = 20
# Texts of which the best that nothing contradicts are given.
_LEAST_WRITTEN = 4


def start_description(request: GenerationRequest, compound: tuple[str, str] | None, ports: Ports) -> Generation:
    """Checks a request for descriptions and starts it; `compound` (library, InChIKey) stands for the request's own structure.

    Raises the chemistry door's reasons, TOO_LARGE for a molecule beyond what the model reads, TOO_MANY_ITEMS, INVALID_ARGUMENT,
    LIBRARY_NOT_FOUND, COMPOUND_NOT_FOUND.
    """
    count = request.count or 1
    if not 1 <= count <= MAX_COUNT:
        raise AtomasError(Reason.TOO_MANY_ITEMS, f"{count:,} descriptions were asked for; one molecule gets 1 to {MAX_COUNT}.")
    require_libraries(request, ports)
    with ports.database.reading() as transaction:
        smiles = transaction.compounds.get(*compound).structure.smiles if compound is not None else None
    if smiles is None:
        smiles = read_molecule(request.source, ports).smiles
    tokens, most = ports.encoder.molecule_tokens(smiles), ports.encoder.model.max_tokens
    if tokens > most:
        raise AtomasError(Reason.TOO_LARGE, f"The molecule has {tokens:,} tokens; the model reads up to {most:,}.")
    settled = {**vars(request), "source": smiles, "count": count, "seed": checked_seed(request.seed)}
    return start_generation(GenerationRequest(**settled), ports)


def find_descriptions(held: "HeldGeneration", ports: Ports) -> int:
    """Writes, drops what the structure contradicts, stores the rest; returns how many are kept."""
    request = held.request
    former = held.former_findings()
    [molecule] = ports.chemistry.standardise_many([Spelling("smiles", request.source)])
    if isinstance(molecule, Exception):
        raise AtomasError(Reason(molecule.reason), molecule.message)
    [vector] = ports.encoder.encode_molecules([request.source])
    compounds: list[Compound] = []
    if not request.ignore_library:
        compounds = stored_compounds(held.neighbours, ports)
        if not held.neighbours:
            near = nearest_compounds(structure_of(molecule), vector, _LOOKED_AT, request.libraries, ports)
            shown = readable([each for each in near if each[0].inchikey != molecule.inchikey])
            held.show(shown)
            compounds = stored_compounds(shown, ports)
    texts = [Shown(compound.structure.smiles, compound.display_name, _text_of(compound)) for compound in compounds]
    written = require_generator(ports).describe(request.model, request.source, max(request.count, _LEAST_WRITTEN), texts, held.stopped)
    facts, dropped, kept = Facts(request.source), Counter[str](), list[Description]()
    attempted = 0
    for each in written:
        if len(kept) == request.count:
            break
        attempted += 1
        checked = check_text(each.content, facts)
        if not checked.text:
            dropped[Drop.CONTRADICTED] += 1
        elif any(other.text == checked.text for other in kept):
            dropped[Drop.DUPLICATE] += 1
        else:
            [own] = ports.encoder.encode_texts([checked.text])
            kept.append(Description(checked.text, each.log_probability, float(own @ vector), checked.contradicted))
    held.keep(len(former), kept[len(former) :], attempted, len(kept), dropped)
    return len(kept)


def readable(near: Sequence[tuple[Compound, float]]) -> list[KnownCompound]:
    """Those of the compounds, nearest first, that the decoder reads: of some the whole text, of others name and classes."""
    telling = [each for each in near if each[0].display_name or each[0].descriptions]
    detailed = [each for each in telling if _is_prose(_text_of(each[0]))][:DETAILED]
    brief = [each for each in telling if each not in detailed][:BRIEF]
    return [as_known(*each) for each in sorted(detailed + brief, key=lambda each: -each[1])]


def _text_of(compound: Compound) -> str:
    texts = [normalise(text) for text in compound.descriptions]
    return next((text for text in texts if manner_of(text) is Manner.PROSE), texts[0] if texts else "")


def _is_prose(text: str) -> bool:
    return bool(text) and manner_of(text) is Manner.PROSE
