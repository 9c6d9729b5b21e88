"""The index's copy of a compound: what a hit shows, without asking SQL."""

import json
from dataclasses import asdict
from datetime import datetime

from server.domain.compounds import Compound, SourceRecord, Structure


def document_of(compound: Compound) -> str:
    """The compound as JSON text; text keeps every digit of its numbers, which a payload's floats do not."""
    said = {
        "library": compound.library,
        # No hit shows the fingerprint: SQL keeps it.
        "structure": {**asdict(compound.structure), "fingerprint": ""},
        "records": [asdict(record) for record in compound.records],
        "revision": compound.revision,
        "create_time": compound.create_time.isoformat() if compound.create_time else None,
        "update_time": compound.update_time.isoformat() if compound.update_time else None,
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def compound_of(document: str) -> Compound:
    """The compound that `document_of` wrote, without its fingerprint."""
    said = json.loads(document)
    structure = Structure(**{**said["structure"], "fingerprint": b""})
    records = tuple(
        SourceRecord(
            source_id=record["source_id"],
            display_name=record["display_name"],
            synonyms=tuple(record["synonyms"]),
            descriptions=tuple(record["descriptions"]),
            metadata=record["metadata"],
            order=(record["order"][0], record["order"][1]),
        )
        for record in said["records"]
    )
    create, update = (datetime.fromisoformat(said[name]) if said[name] else None for name in ("create_time", "update_time"))
    return Compound(said["library"], structure, records, said["revision"], create, update)
