"""The command that tells why a text finds a molecule."""

from pathlib import Path
from typing import Annotated

import typer

from atomas import display
from atomas.console import Address, Json, document, service
from atomas.explaining import Explanation


def explain(
    context: typer.Context,
    molecule: Annotated[str, typer.Argument(help="A structure, or a stored compound as LIBRARY/INCHIKEY or its resource name.")],
    text: Annotated[str, typer.Argument(help="The text to explain by.")] = "",
    substructure: Annotated[str, typer.Option(metavar="SMARTS", help="Mark the atoms of a substructure as well.")] = "",
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the molecule, its atoms coloured by the phrases.")] = None,
    address: Address = None,
    as_document: Json = False,
) -> None:
    """Tell which words of a text point at which atoms of a molecule."""
    stored = molecule.startswith("libraries/") or is_compound(molecule)
    with service(context, address) as client:
        found = client.explain(
            text,
            compound=molecule if stored else None,
            structure=None if stored else molecule,
            substructure=substructure,
            draw=svg is not None,
        )
    if svg is not None:
        try:
            svg.write_text(found.svg, encoding="utf-8")
        except OSError as error:
            display.complain(f"{svg} cannot be written: {error.strerror}.")
            raise typer.Exit(1) from None
    display.print_json(document(found)) if as_document else display.print_lines(_lines(found))


def is_compound(text: str) -> bool:
    """Whether the text is LIBRARY/INCHIKEY: a structure has no slash followed by such a key."""
    _, slash, key = text.partition("/")
    return bool(slash) and len(key) == 27 and key[14] == key[25] == "-"


def _lines(found: Explanation) -> list[str]:
    lines = [f"{found.smiles}  cosine {found.score:.3f}"]
    for phrase in found.phrases:
        strongest = sorted(range(len(phrase.atom_weights)), key=lambda atom: -phrase.atom_weights[atom])[:6]
        atoms = ", ".join(f"{atom} ({phrase.atom_weights[atom]:.0%})" for atom in strongest if phrase.atom_weights[atom] >= 0.01)
        lines.append(f"{phrase.weight:6.1%}  {phrase.text}  atoms {atoms or 'none in particular'}")
    if found.matched_atoms:
        lines.append(f"substructure: atoms {', '.join(map(str, found.matched_atoms))}")
    return lines
