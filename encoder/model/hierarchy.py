"""The hierarchy on the encoder's tokens: words and atoms, phrases and fragments, texts and molecules."""

# Shape legend:  B items, L tokens of the encoder, T tokens that say something, K clusters, D width
from dataclasses import replace

import torch
from torch import Tensor, nn

from encoder.model.alignment import AlignmentConfig, HierarchicalAlignment, Level
from encoder.model.config import MODALITIES, Modality


class Hierarchy(nn.Module):
    """Narrows the encoder's tokens and aligns them level by level (Atomas, section 3.3).

    Only tokens with a say take part: words, and atoms. Bonds, branches and ring closures are spelling, and the token of the whole molecule
    would answer every word in the atoms' place; it is kept only where nothing else is left.
    """

    def __init__(self, token_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.ModuleDict({modality: nn.LayerNorm(token_width) for modality in MODALITIES})
        self.narrow = nn.ModuleDict({modality: nn.Linear(token_width, width) for modality in MODALITIES})
        self.alignment = HierarchicalAlignment(AlignmentConfig(width))

    def levels(self, modality: Modality, tokens_BLD: Tensor, mask_BL: Tensor, mass_BL: Tensor) -> tuple[Level, ...]:
        """Return the three levels; assignments name the encoder's tokens, and are -1 for those that take no part."""
        taking_part_BL = _taking_part(modality, mask_BL, mass_BL)
        levels = self.alignment.levels(*self._narrowed(modality, tokens_BLD, taking_part_BL), modality)
        return tuple(_leading_back(level, taking_part_BL) for level in levels)

    def fragments(self, modality: Modality, tokens_BLD: Tensor, mask_BL: Tensor, mass_BL: Tensor) -> Level:
        """Return level 1 alone, as `levels` does."""
        taking_part_BL = _taking_part(modality, mask_BL, mass_BL)
        level = self.alignment.fragments(*self._narrowed(modality, tokens_BLD, taking_part_BL), modality)
        return _leading_back(level, taking_part_BL)

    def _narrowed(self, modality: Modality, tokens_BLD: Tensor, taking_part_BL: Tensor) -> tuple[Tensor, Tensor]:
        mask_BT, place_BT = _gathered(taking_part_BL)
        tokens_BTD = tokens_BLD.gather(1, place_BT[:, :, None].expand(-1, -1, tokens_BLD.shape[2]))
        return self.narrow[modality](self.norm[modality](tokens_BTD)), mask_BT


def _leading_back(level: Level, taking_part_BL: Tensor) -> Level:
    order_BL = (taking_part_BL.cumsum(1) - 1).clamp_min(0)
    return replace(level, assignment_BL=level.assignment_BL.gather(1, order_BL).masked_fill(~taking_part_BL, -1))


def _taking_part(modality: Modality, mask_BL: Tensor, mass_BL: Tensor) -> Tensor:
    taking_part_BL = mask_BL & (mass_BL > 0)
    if modality == "molecule":
        taking_part_BL[:, 0] = False
    taking_part_BL[:, 0] |= mask_BL[:, 0] & ~taking_part_BL.any(1)
    return taking_part_BL


def _gathered(taking_part_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Mask (B, T) and places (B, T) that move the tokens taking part to the front, in their order."""
    longest = max(int(taking_part_BL.sum(1).max()), 1)
    place_BT = (~taking_part_BL).to(torch.uint8).sort(dim=1, stable=True).indices[:, :longest]
    return taking_part_BL.gather(1, place_BT), place_BT
