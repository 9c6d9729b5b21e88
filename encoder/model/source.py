"""What the decoder reads of an item: the encoder's tokens and vector, and the texts or SMILES of alike items from which it may copy."""

# Shape legend:  B items, E encoder tokens, C encoder width, X dimension of the vectors, K neighbours, M copyable tokens

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """One batch of what is read. Copyable tokens are outputs of the task at hand (`encoder.model.decoder`), each neighbour's closed by END."""

    tokens_BEC: Tensor
    """The encoder's tokens of the item."""
    mask_BE: Tensor
    """True where a token is real."""
    vector_BX: Tensor
    """The encoder's vector of the item."""
    manner_B: Tensor
    """The manner of text that is asked for, numbers below `DecoderConfig.manners`."""
    copied_BM: Tensor
    """Outputs that may be copied; M may be 0."""
    copied_mask_BM: Tensor
    """True where such an output is real."""
    owner_BM: Tensor
    """The neighbour that each of them belongs to, below K."""
    neighbours_BKX: Tensor
    """The encoder's vectors of the neighbours' molecules; K may be 0."""
    likeness_BK: Tensor
    """How alike each neighbour is, 0 to 1."""

    def __len__(self) -> int:
        return len(self.tokens_BEC)

    def to(self, device: torch.device) -> "Source":
        """The same on a device."""
        return Source(*(getattr(self, field.name).to(device) for field in fields(self)))

    def select(self, items_B: Tensor) -> "Source":
        """These items (indices) alone, in this order."""
        return Source(*(getattr(self, field.name)[items_B] for field in fields(self)))


def without_neighbours(tokens_BEC: Tensor, mask_BE: Tensor, vector_BX: Tensor, manner: int = 0) -> Source:
    """A source from which nothing can be copied."""
    batch = len(tokens_BEC)
    none_B0 = torch.zeros(batch, 0, dtype=torch.long)
    manner_B = torch.full((batch,), manner)
    return Source(
        tokens_BEC,
        mask_BE,
        vector_BX,
        manner_B,
        none_B0,
        none_B0.bool(),
        none_B0,
        vector_BX.new_zeros(batch, 0, vector_BX.shape[1]),
        vector_BX.new_zeros(batch, 0),
    )
