"""Reading one molecule from SMILES, InChI or a molfile, within limits, with an error that says what is wrong."""

import re
from collections.abc import Callable

from rdkit import Chem, rdBase

from encoder.inchi import keeps_identity, settle_mobile_hydrogens
from encoder.structures import DEFAULT_LIMITS, Kind, Limits, MoleculeError, Reason, Structure

# RDKit writes to standard error, structures included; its complaints reach people through MoleculeError alone.
rdBase.DisableLog("rdApp.*")

_INCHIKEY = re.compile(r"[A-Z]{14}-[A-Z]{10}-[A-Z]")
_REACTION = re.compile(r"[^<>]*>[^<>]*>[^<>]*")
_COUNTS_LINE = re.compile(r"^.*V[23]000[ \t]*$", re.MULTILINE)
_MOLBLOCK_MARK = re.compile(r"^M  END|V[23]000[ \t]*$", re.MULTILINE)
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_INCHI_FORMULA_PART = re.compile(r"(\d*)((?:[A-Z][a-z]?\d*)+)")
_FORMULA_ATOM = re.compile(r"([A-Z][a-z]?)(\d*)")
_LOG_PREFIX = re.compile(r"^\[\d\d:\d\d:\d\d\] ?|SMILES Parse Error: |ERROR: ?")
_LOG_POSITION = re.compile(r"around position (\d+)")
_LOG_VALENCE = re.compile(r"Explicit valence for atom # (\d+) (\w+), (\d+)")
_LOG_NOT_IN_RING = re.compile(r"non-ring atom (\d+) marked aromatic")
_LOG_NOISE = ("****", "----", "Violation", "Failed Expression", "Post-condition", "Pre-condition", "Invariant")
_INVALID = {"smiles": Reason.INVALID_SMILES, "inchi": Reason.INVALID_INCHI, "molblock": Reason.INVALID_MOLBLOCK}
_NAMES = {"smiles": "SMILES", "inchi": "InChI", "molblock": "molfile"}
_HEADER_LINES = 3


def parse(structure: Structure, limits: Limits = DEFAULT_LIMITS) -> Chem.Mol:
    """Read a structure in the notation it says it is in.

    Returns a sanitised molecule of at least one atom, hydrogens implicit, stereochemistry assigned.
    Raises `MoleculeError`, and nothing else for any text.
    """
    return _PARSERS[structure.kind](structure.text, limits)


def parse_any(text: str, limits: Limits = DEFAULT_LIMITS) -> Chem.Mol:
    """Read a molecule whose notation has to be recognised: a molfile, an InChI, otherwise SMILES."""
    return _PARSERS[recognise(text)](text, limits)


def recognise(text: str) -> Kind:
    """Tell the notation of a text by its marks; what has none is taken for SMILES. The text need not be valid."""
    if text.lstrip().startswith("InChI="):
        return "inchi"
    return "molblock" if _MOLBLOCK_MARK.search(text) else "smiles"


def parse_smiles(text: str, limits: Limits = DEFAULT_LIMITS) -> Chem.Mol:
    """Read one SMILES, optionally followed by its CXSMILES extension in bars; names after it are refused, not guessed at."""
    smiles, extension = _one_line(text, limits, "smiles")
    if _INCHIKEY.fullmatch(smiles):
        raise MoleculeError(
            Reason.UNSUPPORTED, "An InChIKey names a structure but does not hold it: give SMILES, InChI or a molfile instead."
        )
    if _REACTION.fullmatch(smiles.replace("->", "")):
        raise MoleculeError(Reason.UNSUPPORTED, "The text is a reaction, not one molecule.")
    if extension and not (extension.startswith("|") and extension.endswith("|")):
        raise MoleculeError(Reason.INVALID_SMILES, "The SMILES is followed by further text: give the structure alone, without a name.")
    _refuse_foreign_characters(smiles, "smiles")
    params = Chem.SmilesParserParams()
    params.parseName = False
    params.strictCXSMILES = True
    line = f"{smiles} {extension}" if extension else smiles

    def read(sanitize: bool) -> Chem.Mol | None:
        params.sanitize = params.removeHs = sanitize
        return Chem.MolFromSmiles(line, params)

    return _read_within(read, len(line), limits, "smiles")


def parse_inchi(text: str, limits: Limits = DEFAULT_LIMITS) -> Chem.Mol:
    """Read one InChI, standard or not."""
    inchi, rest = _one_line(text, limits, "inchi")
    if rest or not inchi.startswith("InChI="):
        raise MoleculeError(Reason.INVALID_INCHI, "An InChI starts with InChI= and holds no spaces.")
    _refuse_foreign_characters(inchi, "inchi")
    if inchi.endswith("//"):
        raise MoleculeError(Reason.EMPTY, "There is no structure: the InChI holds no atoms.")
    # The formula may promise any number of atoms in a few characters, so it is counted before anything is built.
    if (atoms := _atoms_of_inchi(inchi)) > limits.max_atoms:
        raise _too_many_atoms(atoms, limits)
    molecule = _read_within(lambda sanitize: Chem.MolFromInchi(inchi, sanitize=sanitize, removeHs=sanitize), len(inchi), limits, "inchi")
    if not keeps_identity(molecule, inchi):
        # One in a thousand: halogen oxides, some ammonium salts and dyes. Another compound's key would be worse than a refusal.
        raise MoleculeError(
            Reason.UNSUPPORTED, "RDKit cannot rebuild the molecule of this InChI exactly: give SMILES or a molfile instead."
        )
    return settle_mobile_hydrogens(molecule)


def parse_molblock(text: str, limits: Limits = DEFAULT_LIMITS) -> Chem.Mol:
    """Read a molfile or the first record of an SD file (V2000, V3000); what follows M END is ignored.

    Stereochemistry comes from the drawing. The chiral flag and enhanced stereo groups are not kept: centres are taken as absolute.
    """
    if not text.strip():
        raise MoleculeError(Reason.EMPTY, "There is no structure: the molfile is empty.")
    if len(text) > limits.max_molblock_characters:
        raise MoleculeError(
            Reason.TOO_LARGE, f"The molfile has {len(text):,} characters; at most {limits.max_molblock_characters:,} are read."
        )
    block = _molblock(text)
    return _read_within(lambda sanitize: Chem.MolFromMolBlock(block, sanitize=sanitize, removeHs=sanitize), len(block), limits, "molblock")


_PARSERS: dict[Kind, Callable[[str, Limits], Chem.Mol]] = {
    "auto": parse_any,
    "smiles": parse_smiles,
    "inchi": parse_inchi,
    "molblock": parse_molblock,
}


def _read_within(read: Callable[[bool], Chem.Mol | None], characters: int, limits: Limits, kind: Kind) -> Chem.Mol:
    """Call RDKit's reader (its argument: sanitise?), never on more atoms than allowed, and explain a failure."""
    # An atom takes a character at least, so only a long text can hold too many.
    if characters > limits.max_atoms:
        _check_size(_call(read, False, kind), limits)
    molecule = _call(read, True, kind)
    if molecule.GetNumAtoms() == 0:
        raise MoleculeError(Reason.EMPTY, f"There is no structure: the {_NAMES[kind]} holds no atoms.")
    _check_size(molecule, limits)
    _refuse_queries(molecule)
    return molecule


def _call(read: Callable[[bool], Chem.Mol | None], sanitize: bool, kind: Kind) -> Chem.Mol:
    with rdBase.CaptureErrorLog() as log:
        try:
            molecule = read(sanitize)
            complaint = ""
        except MemoryError:
            raise
        # RDKit raises half a dozen unrelated types on malformed text; to the caller they are all one thing.
        except Exception as error:
            molecule, complaint = None, str(error)
    if molecule is None:
        raise MoleculeError(_INVALID[kind], f"The {_NAMES[kind]} cannot be read: {_readable(log.messages or complaint)}.")
    return molecule


def _readable(log: str) -> str:
    """Reduce what RDKit logged to the one line that tells a person what is wrong; stack traces end here."""
    log = log.partition("Stacktrace")[0]
    if position := _LOG_POSITION.search(log):
        return f"check for mistakes around position {position[1]}"
    # RDKit counts atoms from 0, people from 1.
    if valence := _LOG_VALENCE.search(log):
        return f"atom {int(valence[1]) + 1} ({valence[2]}) has valence {valence[3]}, more than it can have"
    if aromatic := _LOG_NOT_IN_RING.search(log):
        return f"atom {int(aromatic[1]) + 1} is written as aromatic but is in no ring"
    if "kekulize" in log.lower():
        return "its aromatic atoms allow no alternating double bonds; a hydrogen, as in [nH], may be missing"
    if "unclosed ring" in log:
        return "a ring is not closed"
    lines = (_LOG_PREFIX.sub("", line.strip()).strip(" .:") for line in log.splitlines())
    message = next(
        (line for line in lines if line and "::" not in line and not line.startswith(_LOG_NOISE)), "it breaks the rules of the notation"
    )
    return message.split(" for input:")[0][:200]


def _one_line(text: str, limits: Limits, kind: Kind) -> tuple[str, str]:
    """Split a line notation into its first word and the rest; refuse empty, over-long and many-lined text."""
    if len(text) > limits.max_characters:
        raise MoleculeError(
            Reason.TOO_LARGE, f"The {_NAMES[kind]} has {len(text):,} characters; at most {limits.max_characters:,} are read."
        )
    stripped = text.strip().lstrip("\ufeff")
    if not stripped:
        raise MoleculeError(Reason.EMPTY, "There is no structure: the text is empty.")
    if len(stripped.splitlines()) > 1:
        raise MoleculeError(_INVALID[kind], f"The text has several lines and is no molfile: give one {_NAMES[kind]} at a time.")
    first, *rest = stripped.split(maxsplit=1)
    return first, rest[0] if rest else ""


def _refuse_foreign_characters(text: str, kind: Kind) -> None:
    """Name the first character that is not printable ASCII: it is often invisible (a direction mark, a NUL)."""
    for position, character in enumerate(text, start=1):
        if not "!" <= character <= "~":
            shown = f"“{character}” " if character.isprintable() else ""
            name = _NAMES[kind]
            message = f"The {name} holds the character {shown}(U+{ord(character):04X}) at position {position}, which no {name} contains."
            raise MoleculeError(_INVALID[kind], message)


def _atoms_of_inchi(inchi: str) -> int:
    """Count the atoms but hydrogen that an InChI's formula layer promises (`2C6H12O6.Na`: 25)."""
    layers = inchi.split("/", 2)
    if len(layers) < 2:
        return 0
    total = 0
    for copies, formula in _INCHI_FORMULA_PART.findall(layers[1]):
        atoms = sum(int(count or 1) for element, count in _FORMULA_ATOM.findall(formula) if element != "H" or formula.startswith("H"))
        total += int(copies or 1) * atoms
    return total


def _molblock(text: str) -> str:
    """Keep the connection table of a record, its counts line on the fourth line where the format wants it.

    Blank title lines are what copying and trimming lose first, and titles are free text in any alphabet: neither matters here.
    """
    lines = _LINE_BREAK.split(text)
    counts = next((i for i, line in enumerate(lines) if _COUNTS_LINE.match(line)), None)
    if counts is None:
        raise MoleculeError(
            Reason.INVALID_MOLBLOCK, "The molfile has no counts line: a line ending in V2000 or V3000 must follow three header lines."
        )
    end = next((i for i, line in enumerate(lines) if line.startswith("M  END")), None)
    if end is None or end < counts:
        raise MoleculeError(Reason.INVALID_MOLBLOCK, "The molfile is cut off: it has no M  END line.")
    block = "\n".join([""] * _HEADER_LINES + lines[counts : end + 1]) + "\n"
    if "\0" in block:
        raise MoleculeError(Reason.INVALID_MOLBLOCK, "The molfile holds a NUL byte: it is not text.")
    return block.encode("ascii", "replace").decode("ascii")


def _check_size(molecule: Chem.Mol, limits: Limits) -> None:
    if molecule.GetNumAtoms() <= limits.max_atoms:
        return
    atoms = sum(1 for atom in molecule.GetAtoms() if atom.GetAtomicNum() != 1)
    if atoms > limits.max_atoms:
        raise _too_many_atoms(atoms, limits)


def _too_many_atoms(atoms: int, limits: Limits) -> MoleculeError:
    return MoleculeError(Reason.TOO_LARGE, f"The molecule has {atoms:,} atoms besides hydrogen; at most {limits.max_atoms:,} are handled.")


def _refuse_queries(molecule: Chem.Mol) -> None:
    """Attachment points (`*`, R groups) are structure and stay; atom lists, "any halogen" or "any bond" are questions."""
    if not molecule.HasQuery():  # thirty times as fast as looking at every atom from here
        return
    for atom in molecule.GetAtoms():
        if atom.HasQuery() and (atom.GetQueryType() or not atom.DescribeQuery().startswith("AtomNull")):
            raise MoleculeError(Reason.UNSUPPORTED, f"Atom {atom.GetIdx() + 1} is a query (a list or class of atoms), not an element.")
    for bond in molecule.GetBonds():
        if bond.HasQuery():
            raise MoleculeError(
                Reason.UNSUPPORTED, f"The bond between atoms {bond.GetBeginAtomIdx() + 1} and {bond.GetEndAtomIdx() + 1} is a query."
            )
