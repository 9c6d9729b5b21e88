"""A compound: one standardised structure and everything its source records say about it."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TypeAlias

JsonValue: TypeAlias = str | float | int | bool | list["JsonValue"] | dict[str, "JsonValue"] | None

# Point ids of the vector index: the same compound has the same id wherever and whenever it is imported.
POINT_NAMESPACE = uuid.UUID("6f6e0d5e-6c0b-5e3a-9d4a-0a7c1f1b8a51")

# Descriptors by name and kind; the chemistry door computes them, filters and the contract name them.
NUMERIC_DESCRIPTORS = (
    "molecular_weight",
    "exact_mass",
    "clogp",
    "tpsa",
    "hbd",
    "hba",
    "rotatable_bonds",
    "rings",
    "aromatic_rings",
    "heavy_atoms",
    "charge",
    "stereo_centres",
    "fraction_csp3",
)
TEXT_DESCRIPTORS = ("formula",)


@dataclass(frozen=True)
class Structure:
    """A molecule as the chemistry door leaves it."""

    smiles: str
    inchikey: str
    parent_smiles: str
    parent_inchikey: str
    # Values of NUMERIC_DESCRIPTORS and TEXT_DESCRIPTORS.
    descriptors: Mapping[str, float | int | str]
    # Morgan fingerprint, radius 2, 2,048 bits, as 256 bytes.
    fingerprint: bytes


@dataclass(frozen=True)
class SourceRecord:
    """What one row of a source says about a compound."""

    source_id: str = ""
    display_name: str = ""
    synonyms: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    # Orders records for display, whatever order parallel workers saw them in: (import's creation time, position).
    order: tuple[str, int] = ("", 0)

    @cached_property
    def content(self) -> str:
        """Canonical JSON of everything but the order: equal content means that nothing changed."""
        said = [self.source_id, self.display_name, list(self.synonyms), list(self.descriptions), dict(self.metadata)]
        return json.dumps(said, sort_keys=True, ensure_ascii=False)

    @cached_property
    def key(self) -> str:
        """The row's own id, or a hash of its content when it has none: what a later row replaces."""
        return self.source_id or "#" + hashlib.blake2b(self.content.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Compound:
    """One molecule of a library; its identity is (library, InChIKey of the full standardised structure)."""

    library: str
    structure: Structure
    records: tuple[SourceRecord, ...]
    # Counts changes; the index knows which revision it holds.
    revision: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def inchikey(self) -> str:
        return self.structure.inchikey

    @property
    def resource_name(self) -> str:
        return f"libraries/{self.library}/compounds/{self.inchikey}"

    @property
    def display_name(self) -> str:
        return next((r.display_name for r in self.records if r.display_name), "")

    @property
    def source_ids(self) -> tuple[str, ...]:
        return unique(r.source_id for r in self.records if r.source_id)

    @property
    def synonyms(self) -> tuple[str, ...]:
        """Every other name any record gives."""
        shown = self.display_name
        names = unique(name for r in self.records for name in (r.display_name, *r.synonyms) if name)
        return tuple(name for name in names if name != shown)

    @property
    def descriptions(self) -> tuple[str, ...]:
        return unique(text for r in self.records for text in r.descriptions if text)

    @property
    def metadata(self) -> dict[str, JsonValue]:
        """Fields of all records; where they disagree the earliest speaks."""
        merged: dict[str, JsonValue] = {}
        for record in reversed(self.records):
            merged.update(record.metadata)
        return merged

    def merged_with(self, record: SourceRecord) -> "Compound":
        """This compound with one more record, or itself when the record says nothing new.

        A record replaces the one with the same key but keeps its place in the order, so importing a file again changes nothing.
        """
        known = {r.key: r for r in self.records}
        former = known.get(record.key)
        if former is not None and former.content == record.content:
            return self
        known[record.key] = record if former is None else replace(record, order=former.order)
        ordered = tuple(sorted(known.values(), key=lambda r: (r.order, r.key)))
        return replace(self, records=ordered, revision=self.revision + 1)


def point_id(library: str, inchikey: str) -> uuid.UUID:
    """The compound's id in every vector index: UUIDv5 of (library, InChIKey)."""
    return uuid.uuid5(POINT_NAMESPACE, f"{library}/{inchikey}")


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """The values without repeats, in order."""
    return tuple(dict.fromkeys(values))
