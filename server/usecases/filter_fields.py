"""What filters can ask of a compound, beyond its own fields: elements, dates, what is said of it at all."""

from server.domain.compounds import Compound, JsonValue
from server.domain.dates import day_of, seconds_of
from server.domain.formulas import element_counts

# What `has(...)` may ask for beside metadata.
PRESENCES = ("name", "synonyms", "texts", "metadata")


def derived_fields(compound: Compound) -> dict[str, JsonValue]:
    """`elements` (symbols), `elements.SYMBOL` (counts), `date.NAME` and `day.NAME` (Unix time and day of dates in metadata), `has` (what is
    there)."""
    counts = element_counts(str(compound.structure.descriptors["formula"]))
    fields: dict[str, JsonValue] = {"elements": list(counts), **{f"elements.{symbol}": count for symbol, count in counts.items()}}
    metadata = compound.metadata
    present = {
        "name": compound.display_name,
        "synonyms": compound.synonyms,
        "texts": compound.descriptions,
        "metadata": metadata,
        **{f"metadata.{name}": value not in (None, "", []) for name, value in metadata.items()},
    }
    fields["has"] = [name for name, said in present.items() if said]
    for name, value in metadata.items():
        texts = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
        dates = [span[0] for text in texts if (span := seconds_of(text))]
        if dates:
            fields[f"date.{name}"] = list(dates)
            fields[f"day.{name}"] = [day_of(seconds) for seconds in dates]
    return fields
