"""A structure as somebody wrote it: its notation, the limits it must keep, and the typed error when it is refused."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Kind = Literal["auto", "smiles", "inchi", "molblock"]


class Reason(StrEnum):
    """Why a structure was refused; the value is the public error reason."""

    EMPTY = "EMPTY"
    INVALID_SMILES = "INVALID_SMILES"
    INVALID_INCHI = "INVALID_INCHI"
    INVALID_MOLBLOCK = "INVALID_MOLBLOCK"
    INVALID_SMARTS = "INVALID_SMARTS"
    TOO_LARGE = "TOO_LARGE"
    UNSUPPORTED = "UNSUPPORTED"
    TIMEOUT = "TIMEOUT"
    CRASHED = "CRASHED"


class MoleculeError(Exception):
    """One structure was refused; `message` is a sentence for a person and says what to do where anything can be done."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Structure:
    """Text that should hold one molecule, and the notation it is in (`auto`: recognise it)."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one structure may cost.

    `max_atoms` counts everything but hydrogen, so that it does not depend on the spelling; it stays below the 1,023 atoms of a standard InChI.
    `seconds` cannot be enforced inside a process, RDKit's calls cannot be interrupted: `ChemistryPool` does it by ending the worker.
    """

    max_characters: int = 10_000
    max_molblock_characters: int = 500_000
    max_atoms: int = 999
    seconds: float = 10.0


DEFAULT_LIMITS = Limits()
