"""Declared fakes of the smaller ports: an encoder that reads words and elements, chemistry without a guard, a queue that runs when told."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from encoder.drawing import Look, draw
from encoder.molblocks import molblock
from encoder.molecules import STANDARD_VERSION, Molecule, MoleculeError, Structure, standardise_structure
from server.domain.errors import AtomasError, Reason
from server.domain.explanations import Explanation, Phrase
from server.domain.models import ModelVersion
from server.jobs import Job
from server.ports import Parts, Vector


class FakeEncoder:
    """Bags of words and of SMILES letters, hashed: equal inputs are equal vectors, similar ones are near.

    With fragments a text's phrases are its words, a molecule's fragments its letters: a letter is like the words that begin with it.
    """

    def __init__(self, version: str = "fake", dimension: int = 64, max_tokens: int = 1_000, fragment_dimension: int = 0) -> None:
        self.model = ModelVersion(version, dimension, STANDARD_VERSION, max_tokens, fragment_dimension)
        self.calls = 0

    def encode_texts(self, texts: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        self._check([self.text_tokens(text) for text in texts], Reason.TEXT_TOO_LONG, timeout_seconds)
        return self._vectors([re.findall(r"\w+", text.lower()) for text in texts])

    def encode_molecules(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> NDArray[np.float32]:
        self._check([self.molecule_tokens(text) for text in smiles], Reason.TOO_LARGE, timeout_seconds)
        return self._vectors([[text[i : i + 3] for i in range(max(1, len(text) - 2))] for text in smiles])

    def encode_texts_and_phrases(self, texts: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        vectors = self.encode_texts(texts, timeout_seconds)
        return [(vector, self._parts(re.findall(r"\w+", text.lower()))) for vector, text in zip(vectors, texts, strict=True)]

    def encode_molecules_and_fragments(self, smiles: Sequence[str], timeout_seconds: float | None = None) -> list[tuple[Vector, Parts]]:
        vectors = self.encode_molecules(smiles, timeout_seconds)
        return [(vector, self._parts(sorted(set(text.lower())))) for vector, text in zip(vectors, smiles, strict=True)]

    def _parts(self, tokens: Sequence[str]) -> Parts:
        dimension = self.model.fragment_dimension
        if not dimension:
            return Parts.none()
        tokens = tokens or [" "]
        vectors = np.full((len(tokens), dimension), 1e-3, np.float32)
        vectors[np.arange(len(tokens)), [ord(token[0]) % dimension for token in tokens]] = 1.0
        return Parts(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.full(len(tokens), 1 / len(tokens), np.float32))

    def explain(self, text: str, smiles: str, timeout_seconds: float | None = None) -> Explanation:
        """One phrase for each word, pointing at the atoms of the element that it begins with; one level without clusters."""
        [text_vector], [molecule_vector] = self.encode_texts([text], timeout_seconds), self.encode_molecules([smiles], timeout_seconds)
        symbols = [atom.GetSymbol().lower() for atom in Chem.MolFromSmiles(smiles).GetAtoms()]
        words = list(re.finditer(r"\w+", text))
        phrases = []
        for word in words:
            hits = np.array([word[0].lower().startswith(symbol) for symbol in symbols], float)
            phrases.append(Phrase(*word.span(), 1 / len(words), tuple((hits / max(hits.sum(), 1.0)).tolist())))
        return Explanation(float(text_vector @ molecule_vector), tuple(phrases), ())

    def text_tokens(self, text: str) -> int:
        return len(text.split())

    def molecule_tokens(self, smiles: str) -> int:
        return len(smiles)

    def _check(self, lengths: Sequence[int], too_long: Reason, timeout_seconds: float | None) -> None:
        if lengths and timeout_seconds is not None and timeout_seconds <= 0:
            raise AtomasError(Reason.DEADLINE_EXCEEDED, "The deadline has passed.")
        if not all(lengths):
            raise AtomasError(Reason.EMPTY_QUERY, "There is nothing to encode.")
        if any(length > self.model.max_tokens for length in lengths):
            raise AtomasError(too_long, "That is too long for the fake.")

    def _vectors(self, bags: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        self.calls += 1
        vectors = np.zeros((len(bags), self.model.dimension), np.float32)
        for row, bag in zip(vectors, bags, strict=True):
            for token in bag or ("",):
                digest = hashlib.blake2b(token.encode(), digest_size=8).digest()
                row[int.from_bytes(digest[:4], "little") % self.model.dimension] += 1.0 if digest[4] % 2 else -1.0
            row += 1e-3
            row /= np.linalg.norm(row)
        return vectors


class FakeChemistry:
    """The real chemistry door in this process: nothing guards against a molecule that hangs."""

    def standardise_many(self, structures: Sequence[Structure]) -> list[Molecule | MoleculeError]:
        return [self.standardise_one(structure) for structure in structures]

    def draw(self, structure: Structure, look: Look) -> str | MoleculeError:
        try:
            return draw(look, structure)
        except MoleculeError as error:
            return error

    def standardise_one(self, structure: Structure) -> Molecule | MoleculeError:
        try:
            return standardise_structure(structure)
        except MoleculeError as error:
            return error

    def molblocks(self, smiles: Sequence[str]) -> list[str | MoleculeError]:
        return [self._molblock(text) for text in smiles]

    def _molblock(self, smiles: str) -> str | MoleculeError:
        try:
            return molblock(Structure("smiles", smiles))
        except MoleculeError as error:
            return error


class FakeQueue:
    """Keeps jobs until `run_all`; `lose_all` is a broker that died."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def send(self, job: Job) -> None:
        if job not in self.jobs:
            self.jobs.append(job)

    def send_again(self, job: Job) -> None:
        self.send(job)

    def depth(self) -> dict[str, int]:
        return dict(Counter(job.queue for job in self.jobs))

    def lose_all(self) -> None:
        self.jobs.clear()

    def run_all(self, run: Callable[[Job], None]) -> None:
        while self.jobs:
            run(self.jobs.pop(0))


class FakeStorage:
    """A disk that is full when told."""

    def __init__(self) -> None:
        self.full = False

    def require_free_space(self) -> None:
        if self.full:
            raise AtomasError(Reason.DISK_FULL, "The disk is full. Free some space; nothing that was acknowledged is lost.")
