"""What the command line shows: tables for people, one JSON document for programs."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atomas.codec import as_json
from atomas.types import Compound, Hit, ImportReport, Interpretation, Library, Model, ModelComparison, Operation, QueryKind, Rejection

# Wide enough for most structures where nothing tells how wide the reader's window is.
_PIPED_WIDTH = 160
_UNDERSTOOD = {
    QueryKind.NAME: "Taken for a name.",
    QueryKind.STRUCTURE: "Taken for a structure",
    QueryKind.INCHIKEY: "Taken for an InChIKey",
    QueryKind.SOURCE_ID: "Taken for an id",
}
# A terminal would obey these; names and texts come from files of strangers.
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), "�")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    text = json.dumps(as_json(document), ensure_ascii=encoding != "utf8", indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(_writable(shown(line)) + "\n")


def complain(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"atomas: {shown(' '.join(message.split()))}\n")


def shown(text: str) -> str:
    """The text without anything that a terminal would obey."""
    return text.translate(_CONTROLS)


def print_hits(hits: Sequence[Hit]) -> None:
    rows = [[str(hit.rank), f"{hit.score:.3f}", hit.compound.name or hit.compound.inchikey, hit.compound.smiles, why(hit)] for hit in hits]
    _print_table(["rank", "score", "name", "SMILES", "why"], rows, right=("rank", "score"))


def understood(interpretation: Interpretation) -> str:
    """How a query was taken, where that is worth a line; empty for plain words."""
    said = _UNDERSTOOD.get(interpretation.kind, "")
    if interpretation.kind is QueryKind.NAME and interpretation.corrected_name:
        return f"Taken for the name {interpretation.corrected_name!r}."
    return f"{said}: {interpretation.smiles}" if said and interpretation.smiles else said


def why(hit: Hit) -> str:
    """Words that matched, and what each way of searching said."""
    legs = [f"{leg.leg} {leg.score:.2f}" + (f" (no. {leg.rank})" if leg.rank else "") for leg in hit.legs]
    return "; ".join([*([", ".join(hit.matched_words)] if hit.matched_words else []), *legs])


def print_libraries(libraries: Sequence[Library]) -> None:
    rows = [[each.id, each.name, f"{each.compound_count:,}", each.description] for each in libraries]
    _print_table(["id", "name", "compounds", "description"], rows, right=("compounds",))


def print_operations(operations: Sequence[Operation]) -> None:
    rows = [
        [
            each.id,
            each.state.value,
            each.library or each.model,
            each.source or ("reindex" if each.model else ""),
            f"{each.create_time:%Y-%m-%d %H:%M}" if each.create_time else "",
            f"{each.reindex.indexed:,} of {each.reindex.compounds:,}"
            if each.reindex
            else f"{each.counts.decided:,} of {each.counts.received:,}",
            f"{each.counts.rejected:,}",
        ]
        for each in operations
    ]
    _print_table(["operation", "state", "library", "source", "started", "rows", "rejected"], rows, right=("rows", "rejected"))


def print_rejections(rejections: Sequence[Rejection]) -> None:
    rows = [
        [str(each.position), each.reason, each.message, each.row.id or each.row.name, each.row.smiles or each.row.inchi or ""]
        for each in rejections
    ]
    _print_table(["position", "reason", "message", "id", "structure"], rows, right=("position",))


def print_models(models: Sequence[Model]) -> None:
    rows = [
        [each.version, each.state, f"{each.compound_count:,}", str(each.dimension), str(each.max_tokens), each.molecule_standard]
        for each in models
    ]
    columns = ["model", "state", "compounds", "dimension", "max tokens", "molecule standard"]
    _print_table(columns, rows, right=("compounds", "dimension", "max tokens"))


def print_comparison(found: ModelComparison) -> None:
    rows = [[each.text, f"{each.overlap:.0%}", _first(each.former), _first(each.present)] for each in found.comparisons]
    _print_table(["query", "in both", "serving model's best", "other model's best"], rows, right=("in both",))
    print_lines([f"On average {found.mean_overlap:.0%} of the hits are in both answers."])


def _first(names: Sequence[str]) -> str:
    return names[0].removeprefix("libraries/").replace("/compounds/", "/") if names else ""


def print_compound(compound: Compound) -> None:
    facts: list[tuple[str, Any]] = [
        ("name", compound.name),
        ("resource", compound.resource_name),
        ("SMILES", compound.smiles),
        ("InChIKey", compound.inchikey),
        ("parent SMILES", compound.parent_smiles if compound.parent_smiles != compound.smiles else ""),
        ("ids", ", ".join(compound.source_ids)),
        ("synonyms", "; ".join(compound.synonyms)),
        *(("description", text) for text in compound.descriptions),
    ]
    if compound.descriptors is not None:
        facts += [
            (name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) and name != "exact_mass" else str(value))
            for name, value in ((name, getattr(compound.descriptors, name)) for name in compound.descriptors.__dataclass_fields__)
        ]
    facts += [(f"metadata.{name}", value if isinstance(value, str) else json.dumps(value)) for name, value in compound.metadata.items()]
    _print_table(["field", "value"], [[name, str(value)] for name, value in facts if value], header=False)


def summary(report: ImportReport) -> str:
    """An import's counts as a sentence."""
    counts = report.counts
    parts = [f"{counts.created:,} created", f"{counts.updated:,} updated", f"{counts.duplicate:,} already there"]
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in counts.rejected_by_reason.items())
    parts.append(f"{counts.rejected:,} rejected" + (f" ({reasons})" if reasons else ""))
    text = f"{report.rows:,} rows into {report.library}: {', '.join(parts)}."
    if counts.shortened_texts:
        text += f" {counts.shortened_texts:,} texts are longer than the model reads; only their beginnings can be found by meaning."
    return text


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = (), header: bool = True) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_header=header, show_edge=False, header_style="bold", pad_edge=False)
    for column in columns:
        # Structures break anywhere, so that nothing of them is lost; words break between words.
        table.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=column in right)
    for row in rows:
        # As Text, because the brackets of a SMILES would otherwise be taken for markup.
        table.add_row(*(Text(_writable(shown(cell))) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(file=sys.stdout, highlight=False, width=_PIPED_WIDTH)
    console.print(table)


def _writable(text: str) -> str:
    """The text with what stdout's encoding lacks replaced."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
