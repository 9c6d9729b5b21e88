"""Many short pieces of bytes in one block: hundreds of thousands of Python objects among a toolkit's own would slow its every allocation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PackedBytes:
    """N pieces, one after the other; immutable."""

    block: bytes
    # (N + 1,): where each piece begins, and where the last one ends.
    bounds: NDArray[np.int64]

    @staticmethod
    def of(pieces: Sequence[bytes]) -> "PackedBytes":
        """The pieces in their order."""
        return PackedBytes.from_lengths(b"".join(pieces), np.fromiter(map(len, pieces), np.int64, len(pieces)))

    @staticmethod
    def from_lengths(block: bytes, lengths: NDArray[np.integer]) -> "PackedBytes":
        """A block that holds pieces of these lengths and nothing else."""
        bounds = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=bounds[1:])
        return PackedBytes(block, bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.block[self.bounds[row] : self.bounds[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,): bytes of each piece."""
        return np.diff(self.bounds)

    def chosen(self, rows: NDArray[np.intp]) -> "PackedBytes":
        """These pieces in this order."""
        return PackedBytes.from_lengths(b"".join(self._views(rows)), self.lengths[rows])

    @staticmethod
    def joined(parts: Sequence["PackedBytes"]) -> "PackedBytes":
        """All pieces of the parts, in order."""
        return PackedBytes.from_lengths(b"".join(part.block for part in parts), np.concatenate([part.lengths for part in parts]))

    def _views(self, rows: NDArray[np.intp]) -> Iterator[memoryview]:
        whole = memoryview(self.block)
        for begin, end in zip(self.bounds[rows].tolist(), self.bounds[rows + 1].tolist(), strict=True):
            yield whole[begin:end]
