"""Structures as columns of numbers, searched by FPSim2's popcounts and matched by RDKit: one immutable batch of a library."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from FPSim2.FPSim2lib import GenericSearch, SubstructureScreenout
from numpy.typing import NDArray
from rdkit import Chem, DataStructs

from encoder.descriptors import FINGERPRINT_BITS
from encoder.patterns import Pattern, match_parameters, misleads_screening, required_elements
from server.adapters.packed_bytes import PackedBytes

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Rows = NDArray[np.intp]

WORDS = FINGERPRINT_BITS // 64
# FPSim2's layout of a fingerprint: row number, words, number of bits set.
FIRST, LAST, POPCOUNT = 1, 1 + WORDS, 1 + WORDS
COLUMNS = WORDS + 2
ID_BYTES, SKELETON_LETTERS, ELEMENT_WORDS = 16, 14, 2
_TANIMOTO = 0
_EVERY_WORD = np.uint64(2**64 - 1)
_EVERY_BIT = b"\xff" * (8 * WORDS)
# Every so many rows gives a guess at the score of the k-th neighbour.
_SAMPLE_STEP = 16
# More neighbours than wanted are taken from the guess on, so that one guess is nearly always enough.
_SAMPLE_MARGIN = 1.5


class TooSlowError(Exception):
    """The time a pattern may take is over."""


@dataclass(frozen=True)
class Columns:
    """N structures as they are stored, in any order; written to and read from disk as they are."""

    # (N, 16): the points' UUIDs.
    ids: Bytes
    # (N, 14): first block of the parent's InChIKey.
    skeletons: Bytes
    # (N, 2): bit Z for each element present.
    elements: Words
    # (N, 32) each: Morgan bits for similarity, pattern bits for screening.
    morgan: Words
    pattern: Words
    # RDKit's own binary form, N pieces.
    molecules: PackedBytes

    def __len__(self) -> int:
        return len(self.ids)

    def chosen(self, rows: Rows) -> "Columns":
        """These rows in this order."""
        molecules = self.molecules.chosen(rows)
        return Columns(self.ids[rows], self.skeletons[rows], self.elements[rows], self.morgan[rows], self.pattern[rows], molecules)

    @staticmethod
    def joined(parts: Sequence["Columns"]) -> "Columns":
        """All rows of the parts, in order."""
        return Columns(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.skeletons for part in parts]),
            np.concatenate([part.elements for part in parts]),
            np.concatenate([part.morgan for part in parts]),
            np.concatenate([part.pattern for part in parts]),
            PackedBytes.joined([part.molecules for part in parts]),
        )


def columns_of(ids: Bytes, skeletons: Bytes, morgan: Bytes, smiles: Sequence[str]) -> Columns:
    """Columns of new structures whose SMILES passed the chemistry door. Raises ValueError for one that RDKit does not read."""
    molecules, patterns, elements = [], [], np.zeros((len(smiles), ELEMENT_WORDS), np.uint64)
    for row, text in enumerate(smiles):
        molecule = Chem.MolFromSmiles(text)
        if molecule is None:
            raise ValueError("a structure of the library is no SMILES that RDKit reads")
        molecules.append(bytes(molecule.ToBinary(0)))
        patterns.append(_target_bits(molecule))
        elements[row] = _element_bits([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    pattern = np.frombuffer(b"".join(patterns), np.uint8).reshape(-1, WORDS * 8)
    return Columns(ids, skeletons, elements, _words(morgan), _words(pattern), PackedBytes.of(molecules))


class StructureTable:
    """Structures of one library, ordered by their number of Morgan bits. Rows never change; they can only die.

    Safe for readers while one writer lets rows die.
    """

    def __init__(self, columns: Columns) -> None:
        counts = np.bitwise_count(columns.morgan).sum(axis=1, dtype=np.uint64)
        order = np.argsort(counts, kind="stable")
        ordered = columns.chosen(order)
        self.alive = np.ones(len(columns), np.bool_)
        self._counts = counts[order]
        self._morgan = _fpsim2(ordered.morgan, self._counts)
        self._pattern = _fpsim2(ordered.pattern, np.zeros(len(columns), np.uint64))
        # The words within FPSim2's rows: every fingerprint is in memory once.
        self.columns = replace(ordered, morgan=self._morgan[:, FIRST:LAST], pattern=self._pattern[:, FIRST:LAST])
        self._live: list[Chem.Mol | None] = [None] * len(columns)

    def __len__(self) -> int:
        return len(self.columns)

    def surviving(self) -> Columns:
        """The rows that are alive."""
        return self.columns.chosen(np.flatnonzero(self.alive))

    def containing(self, pattern: Pattern, deadline: float, keep: "Keeping") -> Rows:
        """Rows whose molecule holds the pattern. Raises TooSlowError after the deadline, in seconds of time.monotonic."""
        screen = np.zeros(COLUMNS, np.uint64)
        screen[FIRST:LAST] = np.frombuffer(_query_bits(pattern.query), "<u8")
        passed = SubstructureScreenout(screen, self._pattern, 0, len(self)).astype(np.intp)
        needed = _element_bits(required_elements(pattern))
        passed = passed[self.alive[passed] & ((self.columns.elements[passed] & needed) == needed).all(axis=1)]
        params = match_parameters(1)
        found = [row for row in _in_time(passed, deadline) if self.molecule(row, keep).HasSubstructMatch(pattern.query, params)]
        return np.array(found, np.intp)

    def contained_in(self, molecule: Chem.Mol, deadline: float, keep: "Keeping") -> Rows:
        """Rows whose molecule is a substructure of this one. Raises as `containing`."""
        words = np.frombuffer(_target_bits(molecule), "<u8")
        elements = _element_bits([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
        mask = self.alive & ((self.columns.elements & ~elements) == 0).all(axis=1)
        rows = np.flatnonzero(mask)
        bits = self.columns.pattern[rows]
        rows = rows[((bits & ~words) == 0).all(axis=1) | (bits == _EVERY_WORD).all(axis=1)]
        params = match_parameters(1)
        found = [row for row in _in_time(rows, deadline) if molecule.HasSubstructMatch(self.molecule(row, keep), params)]
        return np.array(found, np.intp)

    def with_skeleton(self, skeleton: str) -> Rows:
        """Rows whose parent has this first InChIKey block."""
        wanted = np.frombuffer(skeleton.encode().ljust(SKELETON_LETTERS, b"\0")[:SKELETON_LETTERS], np.uint8)
        rows: Rows = np.flatnonzero(self.alive & (self.columns.skeletons == wanted).all(axis=1))
        return rows

    def similar(self, query: Words, threshold: float) -> tuple[Rows, NDArray[np.float32]]:
        """Rows with at least this Tanimoto similarity to a query of `query_words`, and the similarities."""
        first, last = self._within(int(query[POPCOUNT]), threshold)
        found = GenericSearch(query, self._morgan, threshold, 0, _TANIMOTO, first, last)
        rows, scores = found["idx"].astype(np.intp), found["coeff"]
        alive = self.alive[rows]
        return rows[alive], scores[alive]

    def nearest(self, query: Words, count: int) -> tuple[Rows, NDArray[np.float32]]:
        """At least the `count` most similar rows, and every other one that is as similar as the last of them."""
        guess = self._guess(query, count)
        rows, scores = self.similar(query, guess)
        while guess > 0 and len(rows) < count:
            guess = guess / 2 if guess > 0.05 else 0.0
            rows, scores = self.similar(query, guess)
        return rows, scores

    def tanimoto(self, query: Words, rows: Rows) -> NDArray[np.float32]:
        """Similarities of some rows."""
        common = np.bitwise_count(self.columns.morgan[rows] & query[FIRST:LAST]).sum(axis=1, dtype=np.float32)
        either = self._counts[rows].astype(np.float32) + np.float32(query[POPCOUNT]) - common
        scores: NDArray[np.float32] = np.divide(common, either, out=np.zeros_like(common), where=either > 0)
        return scores

    def molecule(self, row: int, keep: "Keeping") -> Chem.Mol:
        """The molecule of a row, kept ready for the next time while there is room."""
        live = self._live[row]
        if live is None:
            live = Chem.Mol(self.columns.molecules[row])
            if keep.room > 0:
                keep.room -= 1
                self._live[row] = live
        return live

    def give_up(self, keep: "Keeping") -> None:
        """Makes the room of its molecules free: another table has taken its place."""
        keep.room += sum(molecule is not None for molecule in self._live)

    def _guess(self, query: Words, count: int) -> float:
        """A similarity that more than `count` rows probably reach."""
        sample = np.arange(0, len(self), _SAMPLE_STEP)
        sample = sample[self.alive[sample]]
        place = int(count * _SAMPLE_MARGIN / _SAMPLE_STEP) + 2
        if place >= len(sample):
            return 0.0
        scores = self.tanimoto(query, sample)
        return float(np.partition(scores, len(scores) - place)[len(scores) - place])

    def _within(self, bits: int, threshold: float) -> tuple[int, int]:
        """The rows that can reach the threshold at all, by their number of bits alone."""
        if threshold <= 0:
            return 0, len(self)
        # One bit of slack on either side: the threshold is no exact fraction.
        first = np.searchsorted(self._counts, max(int(bits * threshold) - 1, 0), "left")
        last = np.searchsorted(self._counts, int(bits / threshold) + 1, "right")
        return int(first), int(last)


@dataclass
class Keeping:
    """How many more molecules may be kept ready in memory, some 15 KB each."""

    room: int


def query_words(fingerprint: bytes) -> Words:
    """A Morgan fingerprint of 256 bytes as FPSim2 reads a query."""
    query = np.zeros(COLUMNS, np.uint64)
    query[FIRST:LAST] = np.frombuffer(fingerprint, "<u8")
    query[POPCOUNT] = np.bitwise_count(query[FIRST:LAST]).sum()
    return query


def _in_time(rows: Rows, deadline: float) -> Iterator[int]:
    for row in rows.tolist():
        if time.monotonic() > deadline:
            raise TooSlowError
        yield row


def _query_bits(query: Chem.Mol) -> bytes:
    """Bits that every molecule has which holds the query."""
    return bytes(len(_EVERY_BIT)) if misleads_screening(query) else _pattern_bits(query)


def _target_bits(molecule: Chem.Mol) -> bytes:
    """At least the bits of everything that the molecule holds."""
    return _EVERY_BIT if misleads_screening(molecule) else _pattern_bits(molecule)


def _pattern_bits(molecule: Chem.Mol) -> bytes:
    return bytes(DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(molecule, fpSize=FINGERPRINT_BITS)))


def _words(bits: Bytes) -> Words:
    return np.ascontiguousarray(bits).view("<u8").astype(np.uint64, copy=False)


def _element_bits(numbers: Sequence[int]) -> Words:
    bits = 0
    for number in numbers:
        bits |= 1 << number
    return np.array([bits & (2**64 - 1), bits >> 64], np.uint64)


def _fpsim2(words: Words, counts: NDArray[np.uint64]) -> Words:
    rows = np.empty((len(words), COLUMNS), np.uint64)
    rows[:, 0] = np.arange(len(words))
    rows[:, FIRST:LAST] = words
    rows[:, POPCOUNT] = counts
    return rows
