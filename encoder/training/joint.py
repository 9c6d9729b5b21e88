"""The hierarchy learnt together with the vectors, as in the paper: some pairs of every batch are aligned token by token as well."""

# Shape legend:  T tokens of all chosen items, D width, B chosen pairs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.model.atomas import AtomasEncoder, EncodedItems
from encoder.model.config import MODALITIES, Modality
from encoder.model.losses import same_item
from encoder.training.dataset import Pair
from encoder.training.items import ItemBatch, Tokens

ABOUT_PARTS = ("description", "chebi_text", "chebi_class", "sample")
"""Kinds of pairs whose words are about parts of molecules."""
LONGEST = 256
"""Tokens of an item at most; longer ones are aligned by their vectors alone."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Pairs of a batch that are aligned token by token."""

    rows: NDArray[np.int64]
    items: Mapping[Modality, ItemBatch]

    def beside(self, bags: ItemBatch, modality: Modality) -> sp.csr_matrix:
        """One matrix of the batch's bags and of these tokens, so that a table is looked up once: the bags' rows first."""
        return sp.csr_matrix(sp.vstack([bags.matrix, self.items[modality].matrix]))


class JointAlignment:
    """Chooses pairs of a batch and computes the losses of their levels from sums of table rows that carry gradients."""

    def __init__(self, pairs: Sequence[Pair], molecules: Tokens, molecule_of_row: NDArray[np.int64], most: int) -> None:
        """`most` pairs of a batch; `molecule_of_row` names the molecule of every row, of which the pairs are the first."""
        self._most, self._molecules, self._molecule_of_row = most, molecules, molecule_of_row
        short = molecules.lengths[molecule_of_row[: len(pairs)]] <= LONGEST
        self._fitting = short & np.array([pair.kind in ABOUT_PARTS for pair in pairs], dtype=np.bool_)

    def choose(self, texts: Tokens, pairs: NDArray[np.int64], dropout: float, generator: np.random.Generator) -> Chosen | None:
        """Some of the pairs, with a share of their features hidden; None where fewer than two are fit for it."""
        fitting = pairs[self._fitting[pairs] & (texts.lengths[pairs] <= LONGEST)]
        rows = np.sort(generator.permutation(fitting)[: self._most])
        if len(rows) < 2:
            return None
        molecules = self._molecules.select(self._molecule_of_row[rows], dropout, generator)
        return Chosen(rows, {"text": texts.select(rows, dropout, generator), "molecule": molecules})


def level_losses(
    model: AtomasEncoder, sums: Mapping[Modality, Tensor], chosen: Chosen, text_keys_B: Tensor, molecule_keys_B: Tensor
) -> Tensor:
    """The sum of the three levels' losses (Atomas, section 3.3), from the tokens' sums (T, D) of each modality."""
    assert model.hierarchy is not None
    same_BB = same_item(text_keys_B, molecule_keys_B, text_keys_B, molecule_keys_B)
    text_levels, molecule_levels = (
        model.levels(modality, padded(model, modality, sums[modality], chosen.items[modality])) for modality in MODALITIES
    )
    return model.hierarchy.alignment.loss(text_levels, molecule_levels, same_BB).total


def padded(model: AtomasEncoder, modality: Modality, sums_TD: Tensor, items: ItemBatch) -> EncodedItems:
    """Encoded items of tokens whose table rows have been summed."""
    assert items.mass is not None
    assert items.token_counts is not None
    counts_B = torch.from_numpy(items.token_counts).to(sums_TD.device)
    mask_BL = torch.arange(int(counts_B.max()), device=sums_TD.device) < counts_B[:, None]
    tokens_BLD = sums_TD.new_zeros(*mask_BL.shape, sums_TD.shape[1])
    tokens_BLD[mask_BL] = sums_TD
    mass_BL = sums_TD.new_zeros(mask_BL.shape)
    mass_BL[mask_BL] = torch.from_numpy(items.mass).to(sums_TD.device)
    tokens_BLD = model.backbone(tokens_BLD, mask_BL)
    tower = model.tower(modality)
    return EncodedItems(tokens_BLD, mask_BL, mass_BL, tower.project(tower.pool(tokens_BLD, mass_BL)))
