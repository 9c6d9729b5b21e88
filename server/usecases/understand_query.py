"""One box: what a query is, a structure, a key, an id, a name or just words, and which compounds it names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from encoder.molecules import Molecule, MoleculeError, Structure
from server.domain.compounds import Compound
from server.domain.errors import AtomasError, Reason
from server.domain.names import spelled
from server.domain.search import Interpretation, Kind, Leg, NamedCompound, Query
from server.ports import Ports, Question, Transaction
from server.usecases.words import query_weights, words_of

# Compounds shown first because the query names them.
MAX_NAMED = 50
# Of names one typo away, only the likeliest are meant.
MAX_CORRECTED = 5

_INCHIKEY = re.compile(r"[A-Z]{14}-[A-Z]{10}-[A-Z]", re.IGNORECASE)
_SKELETON = re.compile(r"[A-Z]{14}")
_BRACKETS = re.compile(r"\[[^\[\]\s]*\]")
# SMILES and SMARTS once their brackets are taken for atoms.
_ATOMS = re.compile(r"(?:\*|Br|Cl|[BCNOPSFIbcnops]|[-=#$:/\\.()%0-9~!,;&]|@)+(?: \|[^|]*\|)?")
_ATOM = re.compile(r"[*BCNOPSFIbcnops]")
_PLAINLY_STRUCTURE = re.compile(r"[=#\[\\~]")
_MOLBLOCK = re.compile(r"V[23]000|^M  END", re.MULTILINE)


@dataclass(frozen=True)
class Understood:
    """A query after its recognition: what the legs are asked by, and who comes first."""

    interpretation: Interpretation
    # What legs of words are asked by; empty for a structure.
    text: str = ""
    # What legs of structures are asked by; empty for words.
    smiles: str = ""
    # Morgan fingerprint of that structure.
    fingerprint: bytes = b""
    # (library, InChIKey) of the compounds that the query names, the likeliest first.
    named: tuple[tuple[str, str], ...] = ()
    # The compound that is asked for its neighbours: it is no neighbour of itself.
    excluded: tuple[str, str] | None = None


def understand(query: Query, transaction: Transaction, ports: Ports, max_text_characters: int) -> Understood:
    """Raises EMPTY_QUERY, TEXT_TOO_LONG, the chemistry door's reasons, LIBRARY_NOT_FOUND, COMPOUND_NOT_FOUND."""
    if query.text is not None:
        return Understood(Interpretation(Kind.TEXT), text=checked_text(query.text, max_text_characters))
    if query.structure is not None:
        return _structure(query.structure, ports)
    if query.compound is not None:
        library, inchikey = query.compound
        transaction.libraries.get(library)
        compound = transaction.compounds.get(library, inchikey)
        return _of_compound(Kind.COMPOUND, compound, excluded=query.compound)
    if query.anything is None:
        raise AtomasError(Reason.EMPTY_QUERY, "The query is empty: give a text, a structure or a compound.")
    return _recognised(query.anything, query.within, transaction, ports, max_text_characters)


def checked_text(text: str, max_characters: int) -> str:
    """The text itself. Raises EMPTY_QUERY, TEXT_TOO_LONG."""
    if not text.strip():
        raise AtomasError(Reason.EMPTY_QUERY, "The text is empty: say in words what to look for.")
    if len(text) > max_characters:
        raise AtomasError(Reason.TEXT_TOO_LONG, f"The text has {len(text):,} characters; at most {max_characters:,} are read. Shorten it.")
    return text


def looks_like_structure(text: str) -> bool:
    """Whether nothing but the letters and signs of SMILES or SMARTS is there, and an atom among them."""
    flat = text
    while (fewer := _BRACKETS.sub("*", flat)) != flat:
        flat = fewer
    return _ATOMS.fullmatch(flat) is not None and _ATOM.search(flat) is not None


def _recognised(text: str, within: Sequence[str] | None, transaction: Transaction, ports: Ports, max_text_characters: int) -> Understood:
    said = text.strip()
    if said.startswith("InChI=") or _MOLBLOCK.search(text):
        return _structure(text, ports)
    # Ahead of the limit for texts: a long SMILES has its own.
    structure = looks_like_structure(said)
    if not structure:
        checked_text(text, max_text_characters)
    if _INCHIKEY.fullmatch(said):
        key = said.upper()
        found = transaction.names.with_inchikey(key, within, MAX_NAMED) or transaction.names.with_inchikey(key[:15], within, MAX_NAMED)
        return _named(Kind.INCHIKEY, found, transaction)
    if _SKELETON.fullmatch(said) and (found := transaction.names.with_inchikey(f"{said}-", within, MAX_NAMED)):
        return _named(Kind.INCHIKEY, found, transaction)
    matches = transaction.names.spelled(said, within, MAX_NAMED)
    if structure:
        # "CO" is carbon monoxide where a compound is called so, and methanol elsewhere; "C(O)" is nobody's way to write "CO".
        matches = [match for match in matches if match.name == said]
    if ids := [match for match in matches if match.is_id]:
        return _named(Kind.SOURCE_ID, ids, transaction)
    if matches:
        return _by_name(said, matches)
    if structure:
        molecule = ports.chemistry.standardise_one(Structure("auto", said))
        if isinstance(molecule, Molecule):
            return _of_molecule(molecule)
        if _PLAINLY_STRUCTURE.search(said):
            raise _refused(molecule)
        checked_text(text, max_text_characters)
    if (near := transaction.names.misspelled(said, within, MAX_NAMED)) and not _all_words_known(said, within, ports):
        return _by_name(said, near, MAX_CORRECTED)
    return Understood(Interpretation(Kind.TEXT), text=text)


def _structure(text: str, ports: Ports) -> Understood:
    molecule = ports.chemistry.standardise_one(Structure("auto", text))
    if isinstance(molecule, MoleculeError):
        raise _refused(molecule)
    return _of_molecule(molecule)


def _of_molecule(molecule: Molecule) -> Understood:
    return Understood(Interpretation(Kind.STRUCTURE, molecule.smiles), smiles=molecule.smiles, fingerprint=molecule.fingerprint)


def _of_compound(
    kind: Kind, compound: Compound, named: tuple[tuple[str, str], ...] = (), excluded: tuple[str, str] | None = None
) -> Understood:
    structure = compound.structure
    return Understood(
        Interpretation(kind, structure.smiles),
        smiles=structure.smiles,
        fingerprint=structure.fingerprint,
        named=named,
        excluded=excluded,
    )


def _refused(error: MoleculeError) -> AtomasError:
    return AtomasError(Reason(error.reason), error.message)


def _named(kind: Kind, found: Sequence[NamedCompound], transaction: Transaction) -> Understood:
    """By a key or an id: the compounds, then what is like the first of them."""
    places = _places(found)
    if not places:
        return Understood(Interpretation(kind))
    return _of_compound(kind, _compound(places[0], transaction), named=places)


def _by_name(said: str, matches: Sequence[NamedCompound], limit: int = MAX_NAMED) -> Understood:
    """By a name: the compounds of that name, then what the words find. The likeliest spelling first."""
    plain = spelled(said)

    def unlikeness(match: NamedCompound) -> tuple[object, ...]:
        distance = OSA.distance(spelled(match.name), plain)
        # Names of the same spelling belong first of all to the compound that is shown under them.
        return match.name != said, match.name.lower() != said.lower(), distance, not match.is_title, match.library, match.inchikey

    best = sorted(matches, key=unlikeness)
    name = best[0].name
    return Understood(Interpretation(Kind.NAME, corrected_name="" if name == said else name), text=name, named=_places(best)[:limit])


def _places(found: Sequence[NamedCompound]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys((match.library, match.inchikey) for match in found))


def _compound(place: tuple[str, str], transaction: Transaction) -> Compound:
    return transaction.compounds.get(*place)


def _all_words_known(said: str, within: Sequence[str] | None, ports: Ports) -> bool:
    """Whether the query is plain words that texts of the libraries use: `steroids` is no typo of a compound called `steroid`."""
    if not re.fullmatch(r"[^\W\d_]+(?: [^\W\d_]+)*", said):
        return False
    words = dict.fromkeys(words_of(said))
    answers = ports.index.search_legs([Question(Leg.LEXICAL, query_weights(word)) for word in words], 1, within)
    return bool(words) and all(answers)
