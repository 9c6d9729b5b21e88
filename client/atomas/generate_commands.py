"""The commands that generate: molecules from words, words from molecules."""

from typing import Annotated

import typer

from atomas import display
from atomas.console import Address, Json, document, service
from atomas.explain_command import is_compound
from atomas.generating import Candidate, Found, GenerationCounts, KnownCompound

LibraryName = Annotated[
    str | None,
    typer.Option("--library", "-l", metavar="NAME", help="Library that novelty and neighbours are judged by; all when left out."),
]
Alone = Annotated[bool, typer.Option("--ignore-library", help="Do not show the decoder what the library knows.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="Cancel when it takes longer.")]


def generate(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What the molecules shall be, in words.")],
    count: Annotated[int, typer.Option(min=1, help="Distinct molecules wanted, up to 100.")] = 20,
    constraints: Annotated[
        str,
        typer.Option("--constraints", "--filter", metavar="FILTER", help='Conditions, as in searches: `rings < 3 AND NOT smarts("[Cl]")`.'),
    ] = "",
    library: LibraryName = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same molecules; 0 chooses one.")] = 0,
    max_attempts: Annotated[int, typer.Option(min=0, help="Attempts at most; 0 for 20 for each wanted molecule.")] = 0,
    keep_order: Annotated[bool, typer.Option("--keep-order", help="Order by log-probability, not by alignment with the text.")] = False,
    ignore_library: Alone = False,
    timeout: Timeout = None,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Propose new molecules that a text describes."""
    with service(context, address) as client:
        answer = client.generate(
            text,
            library=library,
            count=count,
            filter=constraints,
            seed=seed,
            max_attempts=max_attempts,
            keep_order=keep_order,
            ignore_library=ignore_library,
            timeout_seconds=timeout,
            on_found=None if as_document else _print_found,
        )
    if as_document:
        display.print_json(document(answer))
        return
    display.print_lines(["", *(_line(candidate) for candidate in answer.candidates), ""])
    short = f" Fewer than wanted: {answer.shortfall_reason}." if answer.shortfall_reason else ""
    display.print_lines([f"{_said(answer.counts)}{short} Seed {answer.seed}."])


def describe(
    context: typer.Context,
    molecule: Annotated[str, typer.Argument(help="A structure, or a stored compound as LIBRARY/INCHIKEY or its resource name.")],
    count: Annotated[int, typer.Option(min=1, help="Descriptions wanted, up to 10.")] = 1,
    library: LibraryName = None,
    ignore_library: Alone = False,
    timeout: Timeout = None,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Describe a molecule in words, with the compounds whose texts were read beside it."""
    stored = molecule.startswith("libraries/") or is_compound(molecule)
    with service(context, address) as client:
        answer = client.describe(
            None if stored else molecule,
            compound=molecule if stored else None,
            library=library,
            count=count,
            ignore_library=ignore_library,
            timeout_seconds=timeout,
        )
    if as_document:
        display.print_json(document(answer))
        return
    for each in answer.descriptions:
        display.print_lines([each.text, f"  log-probability {each.log_probability:.1f}, alignment {each.alignment:.3f}"])
        display.print_lines(f"  left out, as the structure contradicts it: {sentence}" for sentence in each.dropped_sentences)
    display.print_lines(f"  read: {_named(known)}" for known in answer.neighbours)
    display.print_lines([_said(answer.counts)])


def _print_found(found: Found) -> None:
    if isinstance(found, Candidate):
        display.print_lines([f"found {found.smiles}"])


def _line(candidate: Candidate) -> str:
    novelty = "known" if candidate.known else "new"
    near = f", near {_named(candidate.nearest[0])}" if candidate.nearest else ""
    return f"{candidate.alignment:.3f}  {candidate.log_probability:7.1f}  {novelty:5}  {candidate.smiles}{near}"


def _named(known: KnownCompound) -> str:
    return f"{known.name or known.compound} ({known.tanimoto:.2f})"


def _said(counts: GenerationCounts) -> str:
    dropped = ", ".join(f"{reason} {number:,}" for reason, number in counts.dropped_by_reason.items())
    return f"{counts.kept:,} kept of {counts.attempted:,} attempts" + (f" (dropped: {dropped})." if dropped else ".")
