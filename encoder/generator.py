"""Texts of molecules and molecules of texts, with what is known of alike molecules to copy from: the trained decoder as the service uses it."""

# Shape legend:  K neighbours, X dimension of the vectors

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoder.checkpoint import DEFAULT_WEIGHTS, Checkpoint, load_checkpoint
from encoder.context import ALIKE, BRIEF, DETAILED, LONGEST_BRIEF, LONGEST_NAME, LONGEST_SMILES, LONGEST_TEXT, ReadItem, collate
from encoder.decoder_checkpoint import WritingModel, load_decoder
from encoder.edits import improved
from encoder.generation import Cancelled, Generated, Sampling, beam_search, never, sample
from encoder.inference import Encoder
from encoder.likeness import COSINE_SHARE, fingerprints, tanimoto
from encoder.model.atomas import TokenBatch
from encoder.model.config import Modality
from encoder.model.decoder import Task, pad_targets
from encoder.model.source import Source
from encoder.prose import Manner, manner_of, normalise
from encoder.syntax import Forbid, NoLoop, SmilesSyntax

MOST = 200
"""Candidates that one call gives at most."""
LONGEST_WRITTEN = {Task.DESCRIBE: 200, Task.GENERATE: 160}
"""Tokens that are written at most."""
_FIRST_ROUND, _LARGEST_ROUND = 16, 64
"""Sequences drawn together: few at first, to show the first soon, then ever more, as drawing many together takes less time for each."""
_SAID_AGAIN = 10
"""Tokens in a row that a text says only once."""
_BATCH = 24
"""Items decoded together."""
EDITED = 5
"""Neighbours of a text that are edited."""
MOST_EDITS = 8
"""Edited neighbours among the molecules for a text, at most."""
_LONGEST_EDITED = 400
"""Tokens of a neighbour that is edited at most; longer ones have too many places for a change."""
_ROUNDS, _KEPT = 2, 5
"""How often the best molecules are edited, and how many of them each time after the first."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A molecule like the one in question, and what is known of it; a name or a text may be missing."""

    smiles: str
    name: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A description that the decoder wrote."""

    text: str
    log_probability: float
    """Natural logarithm of its probability under the decoder."""
    alignment: float
    """Cosine of its vector and the molecule's, under the encoder."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A SMILES that the decoder wrote, not looked at by any chemistry: it may be invalid or a repetition. Or an edited neighbour."""

    smiles: str
    log_probability: float
    """Natural logarithm of its probability under the decoder."""
    edited: bool = False
    """Whether it was made from a neighbour, one or two steps of chemistry away, because it fits the text better."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """How descriptions are found and ranked.

    The search prefers long texts: those that win by mean log-probability are a sixth shorter than what chemists write, because every further
    sentence is less certain than the ones before. Of what it finds, the ranking takes mean log-probability plus so much of the alignment.
    """

    alignment_share: float = 1.0
    search_length: float = 1.5
    """Exponent of the length by which the search divides log-probabilities; 1 would rank by the mean of a token."""


class Generator:
    """A checkpoint with a decoder, ready to write. Not thread-safe: one thread owns it."""

    def __init__(self, checkpoint: Checkpoint, writing: WritingModel, ranking: Ranking | None = None) -> None:
        self.encoder = Encoder(checkpoint)
        self._checkpoint = checkpoint
        self._decoder, self._vocabularies = writing.decoder, writing.vocabularies
        self._ranking = ranking or Ranking()
        self._forbid: dict[Task, Forbid] = {
            Task.DESCRIBE: NoLoop(len(self._vocabularies.text) + 1, _SAID_AGAIN),
            Task.GENERATE: SmilesSyntax(self._vocabularies.smiles),
        }

    @classmethod
    def load(cls, folder: Path | None = None, checkpoint: Checkpoint | None = None) -> "Generator":
        """Load a checkpoint folder, by default the shipped one; `checkpoint` is its encoder where it is loaded already.

        Raises NoDecoderError when the folder holds an encoder alone, CheckpointError when it cannot be used.
        """
        folder = folder or DEFAULT_WEIGHTS
        writing = load_decoder(folder)
        return cls(checkpoint or load_checkpoint(folder), writing)

    def describe(
        self,
        smiles: str,
        neighbours: Sequence[Neighbour] = (),
        manner: Manner = Manner.PROSE,
        beams: int = 4,
        cancelled: Callable[[], bool] = never,
    ) -> list[Written]:
        """Descriptions of a molecule (canonical SMILES as `encoder.molecules` gives it), best first, `beams` of them at most.

        Of the neighbours the most alike are read; the molecule itself should not be among them. EmptyInputError, TooLongError or ValueError
        when the molecule or a neighbour cannot be read; `Cancelled` when `cancelled` says so, which is asked before every token.
        """
        return self.describe_all([(smiles, neighbours)], manner, beams, cancelled)[0]

    def describe_all(
        self,
        molecules: Sequence[tuple[str, Sequence[Neighbour]]],
        manner: Manner = Manner.PROSE,
        beams: int = 4,
        cancelled: Callable[[], bool] = never,
    ) -> list[list[Written]]:
        """`describe` for many molecules at once."""
        items = [self._read_molecule(smiles, neighbours, manner) for smiles, neighbours in molecules]
        written: list[list[Written]] = [[] for _ in items]
        for rows in _batches(items):
            source = collate([items[row] for row in rows])
            found = self._search(Task.DESCRIBE, source, beams, cancelled)
            for row, generated in zip(rows, found, strict=True):
                written[row] = self._ranked(generated, items[row])
        return written

    def propose(
        self, text: str, count: int, seed: int, neighbours: Sequence[Neighbour] = (), cancelled: Callable[[], bool] = never
    ) -> Iterator[Proposal]:
        """Molecules for a text, `count` of them, raw: the likeliest few by beam search, then edited neighbours, then draws, as they are found.

        The same seed gives the same molecules. EmptyInputError, TooLongError or ValueError when the text cannot be read or `count` is not
        between 1 and MOST; `Cancelled` when `cancelled` says so, which is asked before every token.
        """
        if not 1 <= count <= MOST:
            raise ValueError(f"between 1 and {MOST} candidates can be asked for, not {count}")
        return self._proposals(self._read_text(text, neighbours), neighbours, count, seed, cancelled)

    def source_of_text(self, text: str, neighbours: Sequence[Neighbour] = ()) -> Source:
        """What the decoder reads when molecules are proposed for a text."""
        return collate([self._read_text(text, neighbours)])

    def propose_all(
        self, texts: Sequence[tuple[str, Sequence[Neighbour]]], count: int, seed: int, beams: int = 4, cancelled: Callable[[], bool] = never
    ) -> list[list[Proposal]]:
        """`propose` for many texts at once; `beams` of each come from the beam search."""
        items = [self._read_text(text, neighbours) for text, neighbours in texts]
        proposals: list[list[Proposal]] = [[] for _ in items]
        for rows in _batches(items):
            source = collate([items[row] for row in rows])
            for row, generated in zip(rows, self._search(Task.GENERATE, source, min(beams, count), cancelled), strict=True):
                given = self._smiles(generated)
                proposals[row] = (given + self._edited(items[row], texts[row][1], cancelled))[:count]
            if left := count - min(map(len, (proposals[row] for row in rows))):
                for row, generated in zip(rows, self._draw(source, left, seed, cancelled), strict=True):
                    proposals[row] = (proposals[row] + self._smiles(generated))[:count]
        return proposals

    def _proposals(
        self, item: ReadItem, neighbours: Sequence[Neighbour], count: int, seed: int, cancelled: Callable[[], bool]
    ) -> Iterator[Proposal]:
        source = collate([item])
        given = self._smiles(self._search(Task.GENERATE, source, min(4, count), cancelled)[0])
        yield from given
        left = count - len(given)
        if left:
            edited = self._edited(item, neighbours, cancelled)[:left]
            yield from edited
            left -= len(edited)
        number = tried = 0
        while left > 0 and tried < 4 * MOST:
            # Every round has its own stream and size, so that what was drawn before does not depend on how many are asked for.
            size = min(_FIRST_ROUND << number, _LARGEST_ROUND)
            drawn = self._smiles(self._draw(source, size, [seed, number], cancelled)[0])[:left]
            yield from drawn
            left -= len(drawn)
            tried += size
            number += 1

    def _edited(self, item: ReadItem, neighbours: Sequence[Neighbour], cancelled: Callable[[], bool]) -> list[Proposal]:
        """The nearest neighbours, edited until they fit the text better, best first, with their probabilities under the decoder."""
        starts = [neighbour.smiles for neighbour in neighbours if self.encoder.molecule_tokens(neighbour.smiles) <= _LONGEST_EDITED]
        if not starts:
            return []
        vector_X = item.vector_X.numpy()

        def cosines(smiles: Sequence[str]) -> NDArray[np.float32]:
            if cancelled():
                raise Cancelled
            cosine: NDArray[np.float32] = self.encoder.encode_molecules(smiles) @ vector_X
            return cosine

        nearest = np.argsort(-cosines(starts), kind="stable")[:EDITED].tolist()
        best = improved([starts[place] for place in nearest], cosines, _ROUNDS, _KEPT)[:MOST_EDITS]
        if not best:
            return []
        source = collate([item]).select(torch.zeros(len(best), dtype=torch.long))
        targets_BL, mask_BL = pad_targets([self._vocabularies.smiles.encode(smiles) for smiles in best])
        with torch.inference_mode():
            totals = (self._decoder(targets_BL, Task.GENERATE, source) * mask_BL).sum(dim=1).tolist()
        return [Proposal(smiles, total, edited=True) for smiles, total in zip(best, totals, strict=True)]

    def _search(self, task: Task, source: Source, beams: int, cancelled: Callable[[], bool]) -> list[Generated]:
        length = self._ranking.search_length if task == Task.DESCRIBE else 1.0
        return beam_search(
            self._decoder, task, source, beams, LONGEST_WRITTEN[task], length, cancelled=cancelled, forbid=self._forbid[task]
        )

    def _draw(self, source: Source, count: int, seed: int | Sequence[int], cancelled: Callable[[], bool]) -> list[Generated]:
        sampling = Sampling(count, seed, LONGEST_WRITTEN[Task.GENERATE], temperature=0.8, top_p=0.95)
        return sample(self._decoder, Task.GENERATE, source, sampling, cancelled=cancelled, forbid=self._forbid[Task.GENERATE])

    def _smiles(self, generated: Generated) -> list[Proposal]:
        decode = self._vocabularies.smiles.decode
        return [Proposal(decode(list(candidate.ids)), candidate.log_probability) for candidate in generated.candidates]

    def _ranked(self, generated: Generated, item: ReadItem) -> list[Written]:
        texts = [self._vocabularies.text.decode(candidate.ids).strip() for candidate in generated.candidates]
        found = [(text, candidate) for text, candidate in zip(texts, generated.candidates, strict=True) if text]
        if not found:
            return []
        cosines = self.encoder.encode_texts([text for text, _ in found]) @ item.vector_X.numpy()
        scores = [
            candidate.log_probability / (len(candidate.ids) + 1) + self._ranking.alignment_share * float(cosine)
            for (_, candidate), cosine in zip(found, cosines, strict=True)
        ]
        written = [
            Written(text, candidate.log_probability, float(cosine)) for (text, candidate), cosine in zip(found, cosines, strict=True)
        ]
        return [written[place] for place in sorted(range(len(written)), key=lambda place: -scores[place])]

    def _read_molecule(self, smiles: str, neighbours: Sequence[Neighbour], manner: Manner) -> ReadItem:
        vector_X = self.encoder.encode_molecules([smiles])[0]
        chosen, likeness_K, vectors_KX = self._most_alike(smiles, vector_X, neighbours)
        pieces = []
        for neighbour, is_detailed in chosen:
            text = normalise(neighbour.text)
            parts = (
                (f" {neighbour.name.strip()}" if neighbour.name.strip() else "", LONGEST_NAME),
                (
                    text,
                    LONGEST_TEXT if is_detailed else LONGEST_BRIEF,
                ),
            )
            pieces.append([self._vocabularies.text.encode(part)[:longest] for part, longest in parts if part])
        return self._item("molecule", smiles, vector_X, manner, pieces, vectors_KX, likeness_K)

    def _most_alike(
        self, smiles: str, vector_X: NDArray[np.float32], neighbours: Sequence[Neighbour]
    ) -> tuple[list[tuple[Neighbour, bool]], NDArray[np.float32], NDArray[np.float32]]:
        """The neighbours to read, each with whether its whole text is read; their likeness; their vectors."""
        known = [neighbour for neighbour in neighbours if neighbour.name.strip() or neighbour.text.strip()]
        if not known:
            return [], np.zeros(0, np.float32), np.zeros((0, len(vector_X)), np.float32)
        vectors_KX = self.encoder.encode_molecules([neighbour.smiles for neighbour in known])
        bits_KF = fingerprints([smiles, *(neighbour.smiles for neighbour in known)]).astype(np.float32)
        likeness_K = tanimoto(bits_KF[:1], bits_KF[1:].T, bits_KF[1:].sum(axis=1))[0]
        order = np.argsort(-(likeness_K + COSINE_SHARE * (vectors_KX @ vector_X)), kind="stable").tolist()
        detailed = [place for place in order if manner_of(normalise(known[place].text)) == Manner.PROSE][:DETAILED]
        brief = [place for place in order if place not in detailed][:BRIEF]
        chosen = [(known[place], True) for place in detailed] + [(known[place], False) for place in brief]
        return chosen, likeness_K[detailed + brief], vectors_KX[detailed + brief]

    def _read_text(self, text: str, neighbours: Sequence[Neighbour]) -> ReadItem:
        text = normalise(text)
        vector_X = self.encoder.encode_texts([text])[0]
        vectors_KX = np.zeros((0, len(vector_X)), np.float32)
        likeness_K = np.zeros(0, np.float32)
        pieces: list[list[list[int]]] = []
        if neighbours:
            vectors_KX = self.encoder.encode_molecules([neighbour.smiles for neighbour in neighbours])
            nearest = np.argsort(-(vectors_KX @ vector_X), kind="stable")[:ALIKE]
            vectors_KX, likeness_K = vectors_KX[nearest], (vectors_KX @ vector_X)[nearest]
            pieces = [[self._vocabularies.smiles.encode(neighbours[place].smiles)[:LONGEST_SMILES]] for place in nearest.tolist()]
        return self._item("text", text, vector_X, Manner.PROSE, pieces, vectors_KX, likeness_K)

    def _item(
        self,
        modality: Modality,
        content: str,
        vector_X: NDArray[np.float32],
        manner: Manner,
        pieces: list[list[list[int]]],
        vectors_KX: NDArray[np.float32],
        likeness_K: NDArray[np.float32],
    ) -> ReadItem:
        features = self._checkpoint.text_features if modality == "text" else self._checkpoint.molecule_features
        with torch.inference_mode():
            tokens_EC = self._checkpoint.model(modality, TokenBatch.from_features(features([content]))).tokens_BLD[0]
        return ReadItem(tokens_EC, torch.from_numpy(vector_X), manner, pieces, torch.from_numpy(vectors_KX), likeness_K)


def _batches(items: Sequence[ReadItem]) -> list[list[int]]:
    """Items of like length together, so that little is padding."""
    order = sorted(range(len(items)), key=lambda row: len(items[row].tokens_EC), reverse=True)
    return [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
