"""How alike molecules are, for choosing whose texts a decoder reads: Tanimoto similarity of counted Morgan environments."""

# Shape legend:  Q queries, N molecules, F bits of a fingerprint

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

COSINE_SHARE = 0.5
"""Weight of the encoder's cosine beside the Tanimoto similarity when neighbours are ranked."""

_BITS = 2048
_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=2, countSimulation=True, fpSize=_BITS, includeChirality=True)


def fingerprints(smiles: Sequence[str]) -> NDArray[np.uint8]:
    """Fingerprints (N, F) of 0 and 1; ValueError names a SMILES that cannot be read."""
    bits_NF = np.zeros((len(smiles), _BITS), dtype=np.uint8)
    for row, text in enumerate(smiles):
        molecule = Chem.MolFromSmiles(text)
        if molecule is None:
            raise ValueError(f"{text[:200]!r} is no molecule that can be compared")
        bits_NF[row] = _MORGAN.GetFingerprintAsNumPy(molecule)
    return bits_NF


def tanimoto(queries_QF: NDArray[np.float32], bits_FN: NDArray[np.float32], totals_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Similarities (Q, N), 0 to 1, of fingerprints as floats; `totals_N` are the sums of the bits."""
    common_QN = queries_QF @ bits_FN
    similar: NDArray[np.float32] = common_QN / np.maximum(queries_QF.sum(axis=1)[:, None] + totals_N - common_QN, 1.0)
    return similar
