"""From the named fields of any source to an import row: which column means what."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any

from atomas.types import JsonValue, Row

# Field names, best first: of several the first in the row is used and the others stay metadata.
# PubChem's canonical SMILES lack stereochemistry, so an isomeric column goes before a canonical one.
SMILES_FIELDS = (
    "smiles",
    "isomeric_smiles",
    "canonical_smiles",
    "connectivity_smiles",
    "structure",
    "smiles_string",
    "pubchem_openeye_iso_smiles",
)
INCHI_FIELDS = ("inchi", "standard_inchi", "pubchem_iupac_inchi")
MOLBLOCK_FIELDS = ("molblock", "molfile", "mol_block", "ctab")
ID_FIELDS = (
    "id", "source_id", "identifier", "chebi_id", "chebi_accession", "chembl_id", "molecule_chembl_id", "drugbank_id", "hmdb_id", "lm_id",
    "zinc_id", "compound_id", "database_id", "pubchem_compound_cid", "pubchem_cid", "cid",
)  # fmt: skip
NAME_FIELDS = (
    "name", "display_name", "preferred_name", "pref_name", "chebi_name", "compound_name", "generic_name", "common_name", "title",
    "pubchem_iupac_traditional_name",
)  # fmt: skip
SYNONYM_FIELDS = ("synonyms", "synonym", "aliases", "iupac_name", "iupac_names", "inn", "brand_names", "pubchem_iupac_name")
DESCRIPTION_FIELDS = ("description", "descriptions", "definition", "text")

# Fields of files that this client wrote: everything of the metadata as one JSON object; what the service computed, which imports pass over.
METADATA_FIELD = "metadata"
COMPUTED_PREFIX = "atomas."

# Names hold commas, so lists of them are split at line ends, bars and semicolons followed by a space.
_LIST_SEPARATOR = re.compile(r"\s*(?:[\r\n|]+|;\s+)\s*")
# Text that reads as a number and loses nothing as one: no leading zeros, no plus, not too many digits.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,2})?")


@dataclass(frozen=True, slots=True)
class Roles:
    """What each field of a source is for; made once for a header, or for each JSON object."""

    structures: Sequence[tuple[str, str]]
    id: str | None
    name: str | None
    synonyms: Sequence[str]
    descriptions: Sequence[str]
    metadata: Sequence[str]


def normalise(field: str) -> str:
    """`ChEBI Name`, `chebi-name` and `ChebiName` are all `chebiname`."""
    return re.sub(r"[\s\-._]+", "", field.lower())


def holds_smiles(field: str) -> bool:
    """Whether a field of this name holds SMILES."""
    return normalise(field) in map(normalise, SMILES_FIELDS)


@lru_cache(maxsize=256)
def assign_roles(fields: tuple[str, ...], hold_structure: bool = True) -> Roles:
    """Decide by the fields' names, whatever their case, what each is for; what is not known is metadata.

    `hold_structure=False` says that the structure comes from elsewhere, so that fields of structures are metadata too.
    """
    present: dict[str, str] = {}
    for field in fields:
        present.setdefault(normalise(field), field)
    structures = [
        (kind, field)
        for kind, names in (("smiles", SMILES_FIELDS), ("molblock", MOLBLOCK_FIELDS), ("inchi", INCHI_FIELDS))
        for field in _known(names, present)
        if hold_structure
    ]
    id_field, name_field = next(_known(ID_FIELDS, present), None), next(_known(NAME_FIELDS, present), None)
    synonyms, descriptions = list(_known(SYNONYM_FIELDS, present)), list(_known(DESCRIPTION_FIELDS, present))
    # The other structure columns are fallbacks for rows that lack the first, and metadata.
    used = {id_field, name_field, *synonyms, *descriptions, *(field for _, field in structures[:1])}
    metadata = [field for field in fields if field not in used and not f"{field}.".startswith(COMPUTED_PREFIX)]
    return Roles(structures, id_field, name_field, synonyms, descriptions, metadata)


def row_from_fields(
    values: Mapping[str, Any], position: int | None, roles: Roles | None = None, *, typed: bool = True, molblock: str | None = None
) -> Row:
    """A row from named values; None and empty text mean that a field is absent.

    `typed=False` says that all values are text, as in CSV and SDF: metadata that reads as a number becomes one.
    Without any structure the row's SMILES is empty, and the service rejects it as such. Raises ValueError for bytes that are not UTF-8.
    """
    roles = roles or assign_roles(tuple(values), hold_structure=molblock is None)
    kind, structure = ("molblock", molblock) if molblock is not None else _structure(values, roles)
    return Row(
        **{kind: structure},
        id=_text(values.get(roles.id)) if roles.id else "",
        name=_text(values.get(roles.name)) if roles.name else "",
        synonyms=tuple(dict.fromkeys(name for field in roles.synonyms for name in _texts(values.get(field), _LIST_SEPARATOR))),
        descriptions=tuple(dict.fromkeys(text for field in roles.descriptions for text in _texts(values.get(field), None))),
        metadata=_metadata(values, roles.metadata, typed),
        position=position,
    )


def _structure(values: Mapping[str, Any], roles: Roles) -> tuple[str, str]:
    for kind, field in roles.structures:
        text = values.get(field)
        if isinstance(text, bytes):
            text = text.decode()
        if not isinstance(text, str) or not text.strip():
            continue
        if text.lstrip().startswith("InChI="):
            return "inchi", text.strip()
        if "\n" in text.strip():
            return "molblock", text
        return kind, text.strip()
    return "smiles", ""


def _metadata(values: Mapping[str, Any], fields: Sequence[str], typed: bool) -> dict[str, JsonValue]:
    metadata: dict[str, JsonValue] = {}
    for field in fields:
        value = values.get(field)
        if isinstance(value, str) and normalise(field) == METADATA_FIELD:
            value = _json_of(value, dict)
        if isinstance(value, Mapping) and normalise(field) == METADATA_FIELD:
            # A row that this client wrote.
            metadata.update({str(name): plain(item) for name, item in value.items() if item is not None})
            continue
        if isinstance(value, Mapping) and normalise(field) == "rejection":
            # Why an earlier import refused the row, as the command line writes it beside the row to be mended.
            continue
        value = plain(value)
        if isinstance(value, str):
            value = value.strip()
            if not typed and _NUMBER.fullmatch(value):
                value = float(value) if re.search("[.eE]", value) else int(value)
        if value is not None and value != "" and value != []:
            metadata[field] = value
    return metadata


def plain(value: Any) -> JsonValue:
    """The value as JSON knows it; times in ISO 8601, not-a-number as absent."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, Decimal):
        return plain(float(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def _known(names: Sequence[str], present: Mapping[str, str]) -> Iterator[str]:
    """The fields that have one of these names, in the order of the names."""
    return (present[spelled] for spelled in map(normalise, names) if spelled in present)


def _text(value: Any) -> str:
    value = plain(value)
    return "" if value is None else str(value).strip()


def splits_as_list(text: str) -> list[str]:
    """The names that a cell of names holds."""
    return _texts(text, _LIST_SEPARATOR)


def _json_of(text: str, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """What the text holds when it is a JSON value of this kind, else the text."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, kind) else text


def _texts(value: Any, separator: re.Pattern[str] | None) -> list[str]:
    value = plain(value)
    if isinstance(value, str) and value.lstrip().startswith('["'):
        value = _json_of(value, list)
    if isinstance(value, list):
        parts = [_text(item) for item in value]
    elif separator is not None and value is not None:
        parts = separator.split(_text(value))
    else:
        parts = [_text(value)]
    return [part for part in parts if part]
