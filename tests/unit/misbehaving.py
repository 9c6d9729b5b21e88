"""Stand-ins for the chemistry door that hang, crash and gorge themselves, by what the structure's text says."""

import ctypes
import os
import sys
import time

from encoder.molecules import Limits, Molecule, MoleculeError, Reason, Structure, standardise_structure


def misbehave(structure: Structure, limits: Limits) -> Molecule:
    """Do what the text asks for; anything else is standardised as usual."""
    match structure.text.split():
        case ["hang"]:
            while True:
                time.sleep(1)
        case ["segfault"]:
            ctypes.string_at(0)
        case ["abort"]:
            os.abort()
        case ["exit"]:
            os._exit(3)
        case ["gorge"]:
            bytearray(64 << 30)
        case ["pid"]:
            raise MoleculeError(Reason.UNSUPPORTED, str(os.getpid()))
        case ["modules"]:
            raise MoleculeError(Reason.UNSUPPORTED, " ".join(sorted(sys.modules)))
        case ["slowly", smiles]:
            time.sleep(0.02)
            structure = Structure("smiles", smiles)
    return standardise_structure(structure, limits)
