"""What the decoder reads in training: the encoder's tokens of every item, and the pieces of its nearest neighbours."""

# Shape legend:  T tokens of all items, E tokens of an item, C encoder width, N molecules, X dimension of the vectors, K neighbours

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.checkpoint import Checkpoint
from encoder.context import ALIKE, BRIEF, DETAILED, LONGEST_BRIEF, LONGEST_NAME, LONGEST_SMILES, LONGEST_TEXT, ReadItem, collate
from encoder.decoder_checkpoint import Vocabularies
from encoder.inference import Encoder
from encoder.likeness import fingerprints
from encoder.model.config import Modality
from encoder.model.decoder import Task
from encoder.model.source import Source
from encoder.prose import Manner, manner_of
from encoder.training.captions import Corpus, Example, directions
from encoder.training.items import Tokens
from encoder.training.neighbours import Nearest, nearest_molecules, nearest_to_texts

_SPARE = 2
"""Further neighbours, which take the place of those that are hidden while training."""


class Readings:
    """The molecules and queries of a corpus that a training shows, ready to be read; the encoder is frozen."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        corpus: Corpus,
        vocabularies: Vocabularies,
        described: Collection[Manner],
        answered: Collection[Manner],
    ) -> None:
        """Read what is needed to describe molecules in some manners and to answer texts of some manners; the rest only as neighbours."""
        self._model = checkpoint.model
        self._corpus = corpus
        encoder = Encoder(checkpoint)
        self.queries = [query for query in corpus.examples if query.manner in answered and Task.GENERATE in directions(query)]
        texts = [query.text for query in self.queries]
        molecules = sorted({example.molecule for example in corpus.examples if example.manner in described})
        self._places: dict[Modality, dict[int, int]] = {
            "molecule": {molecule: place for place, molecule in enumerate(molecules)},
            "text": {query: query for query in range(len(texts))},
        }
        self._items: dict[Modality, Tokens] = {
            "molecule": Tokens(checkpoint.molecule_features([corpus.smiles[row] for row in molecules]), checkpoint.molecule_features.rows),
            "text": Tokens(checkpoint.text_features(texts), checkpoint.text_features.rows),
        }
        self._tables = {modality: self._model.tower(modality).table.detach().numpy() for modality in self._items}
        self._molecules_NX = encoder.encode_molecules(corpus.smiles)
        self._texts_QX = encoder.encode_texts(texts)
        self._smiles_ids = [vocabularies.smiles.encode(smiles) for smiles in corpus.smiles]
        self._name_ids = [ids[:LONGEST_NAME] for ids in vocabularies.text.encode_all([f" {name}" if name else "" for name in corpus.names])]
        self._text_ids = vocabularies.text.encode_all(corpus.texts)
        self._find_neighbours(np.array(molecules, dtype=np.int64))

    def _find_neighbours(self, molecules: NDArray[np.int64]) -> None:
        corpus, vectors_NX = self._corpus, self._molecules_NX
        bits_NF = fingerprints(corpus.smiles)
        prose = np.array([bool(text) and manner_of(text) == Manner.PROSE for text in corpus.texts])
        known = np.array([bool(name or text) for name, text in zip(corpus.names, corpus.texts, strict=True)])

        def nearest(pool: NDArray[np.bool_], count: int) -> Nearest:
            keys, rows = corpus.inchikeys, np.flatnonzero(pool)
            own = [keys[molecule] for molecule in molecules]
            return nearest_molecules(bits_NF[molecules], vectors_NX[molecules], own, bits_NF, vectors_NX, keys, rows, count)

        self._detailed = nearest(prose, DETAILED + _SPARE)
        self._brief = nearest(known, DETAILED + BRIEF + _SPARE)
        query_keys = [corpus.inchikeys[query.molecule] for query in self.queries]
        everything = np.arange(len(corpus.smiles))
        self._alike = nearest_to_texts(self._texts_QX, query_keys, vectors_NX, corpus.inchikeys, everything, ALIKE + _SPARE)

    def smiles_ids(self, molecule: int) -> list[int]:
        """The molecule as token ids."""
        return self._smiles_ids[molecule]

    def of_molecules(self, examples: Sequence[Example], neighbours: bool, hidden: NDArray[np.float64] | None = None) -> Source:
        """The molecules of some examples, to be described in their manners.

        `hidden` holds random numbers (B, neighbours at most): neighbours with a number below a tenth are hidden.
        """
        rows = np.array([example.molecule for example in examples])
        tokens = self._tokens("molecule", rows)
        items = []
        for place, example in enumerate(examples):
            chosen = self._choose_texts(example.molecule, None if hidden is None else hidden[place]) if neighbours else []
            items.append(self._item(tokens[place], self._molecules_NX[example.molecule], example.manner, chosen))
        return collate(items)

    def of_queries(self, queries: Sequence[int], neighbours: bool, hidden: NDArray[np.float64] | None = None) -> Source:
        """Some of `queries`, for which molecules are to be written."""
        tokens = self._tokens("text", np.array(queries))
        items = []
        for place, query in enumerate(queries):
            chosen: list[tuple[int, float, list[list[int]]]] = []
            if neighbours:
                near = _kept(self._alike, query, None if hidden is None else hidden[place])[:ALIKE]
                chosen = [(row, likeness, [self._smiles_ids[row][:LONGEST_SMILES]]) for row, likeness in near]
            items.append(self._item(tokens[place], self._texts_QX[query], Manner.PROSE, chosen))
        return collate(items)

    def _choose_texts(self, molecule: int, hidden: NDArray[np.float64] | None) -> list[tuple[int, float, list[list[int]]]]:
        place = self._places["molecule"][molecule]
        detailed = _kept(self._detailed, place, hidden)[:DETAILED]
        taken = {row for row, _ in detailed}
        brief = [near for near in _kept(self._brief, place, hidden) if near[0] not in taken][:BRIEF]
        pieces = [(row, likeness, [self._name_ids[row], self._text_ids[row][:LONGEST_TEXT]]) for row, likeness in detailed]
        pieces += [(row, likeness, [self._name_ids[row], self._text_ids[row][:LONGEST_BRIEF]]) for row, likeness in brief]
        return [(row, likeness, [piece for piece in parts if piece]) for row, likeness, parts in pieces]

    def _item(
        self, tokens_EC: Tensor, vector: NDArray[np.float32], manner: Manner, chosen: list[tuple[int, float, list[list[int]]]]
    ) -> ReadItem:
        return ReadItem(
            tokens_EC,
            torch.from_numpy(vector),
            manner,
            [pieces for _, _, pieces in chosen],
            torch.from_numpy(self._molecules_NX[[row for row, _, _ in chosen]]),
            np.array([likeness for _, likeness, _ in chosen], dtype=np.float32),
        )

    def _tokens(self, modality: Modality, rows: NDArray[np.int64]) -> list[Tensor]:
        places = self._places[modality]
        batch = self._items[modality].select(np.array([places[row] for row in rows.tolist()]))
        assert batch.token_counts is not None
        counts = batch.token_counts.tolist()
        tokens = list(torch.split(torch.from_numpy(np.asarray(batch.matrix @ self._tables[modality], dtype=np.float32)), counts))
        if not self._model.config.layers:
            return tokens
        mask_BE = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        with torch.no_grad():
            contextual_BEC = self._model.backbone(torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True), mask_BE)
        return [contextual_EC[:count] for contextual_EC, count in zip(contextual_BEC, counts, strict=True)]


def _kept(nearest: Nearest, row: int, hidden: NDArray[np.float64] | None) -> list[tuple[int, float]]:
    """The neighbours of one query that are not hidden, best first, each with its likeness."""
    near = zip(nearest.rows_QK[row].tolist(), nearest.likeness_QK[row].tolist(), strict=True)
    return [(other, likeness) for place, (other, likeness) in enumerate(near) if other >= 0 and (hidden is None or hidden[place] >= 0.1)]
