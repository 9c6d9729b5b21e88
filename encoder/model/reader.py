"""How the decoder reads a source: the encoder's tokens, and what may be copied, as one sequence of tokens of its own width."""

# Shape legend:  B items, E encoder tokens, M copyable tokens, S = 1 + E + M tokens read, K neighbours, L tokens written, D width,
#                P outputs that a match looks back at

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.model.source import Source

MATCHED = 3
"""A copyable token is favoured by how many tokens before it, up to so many, were just written."""


class Reader(nn.Module):
    """Brings a source to the decoder's width: the item's vector, its tokens, and the neighbours' tokens, which know their neighbour."""

    def __init__(self, encoder_width: int, encoder_dimension: int, width: int, neighbours: int, dropout: float) -> None:
        super().__init__()
        self.token_norm = nn.RMSNorm(encoder_width)
        self.token_in = nn.Linear(encoder_width, width, bias=False)
        self.vector_in = nn.Linear(encoder_dimension, width)
        self.neighbour_in = nn.Linear(encoder_dimension, width)
        self.likeness_in = nn.Linear(1, width, bias=False)
        self.rank = nn.Parameter(torch.randn(neighbours, width) * 0.3)
        self.token_mixer, self.copy_mixer = _Mixer(width), _Mixer(width)
        self.norm = nn.RMSNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Source, copied_BMD: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens read (B, S, D), of which the last M are the copyable ones, whose embeddings are given, and their mask (B, S)."""
        # Vectors have length 1: their numbers are enlarged to scale 1, like all inputs.
        vector_B1D = self.vector_in(source.vector_BX * source.vector_BX.shape[1] ** 0.5)[:, None]
        tokens_BED = self.token_in(self.token_norm(source.tokens_BEC))
        tokens_BED = self.token_mixer(tokens_BED + 0.5 * _positions(tokens_BED), source.mask_BE)
        parts, masks = [vector_B1D, tokens_BED], [source.mask_BE.new_ones(len(source), 1), source.mask_BE]
        if copied_BMD.shape[1]:
            parts.append(self.copy_mixer(copied_BMD + self._neighbours(source), source.copied_mask_BM))
            masks.append(source.copied_mask_BM)
        return self.dropout(self.norm(torch.cat(parts, dim=1))), torch.cat(masks, dim=1)

    def _neighbours(self, source: Source) -> Tensor:
        """What each copyable token must know of its neighbour, (B, M, D)."""
        count = source.neighbours_BKX.shape[1]
        ranks_K = torch.arange(count, device=self.rank.device).clamp_max(len(self.rank) - 1)
        neighbours_BKD = self.neighbour_in(source.neighbours_BKX * source.neighbours_BKX.shape[2] ** 0.5)
        neighbours_BKD = neighbours_BKD + self.likeness_in(source.likeness_BK[:, :, None]) + self.rank[ranks_K]
        of_tokens_BMD: Tensor = neighbours_BKD.gather(1, source.owner_BM[:, :, None].expand(-1, -1, neighbours_BKD.shape[2]))
        return of_tokens_BMD


class _Mixer(nn.Module):
    """Tells every token of the tokens around it: what lets a copy go on where it was."""

    AROUND = (-2, -1, 0, 1)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.around = nn.Parameter(torch.randn(len(self.AROUND), width) * 0.5)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, tokens_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """The same tokens (B, L, D), each with its surroundings; padding gives nothing to its neighbours."""
        normed_BLD = self.norm(tokens_BLD) * mask_BL[:, :, None]
        mixed_BLD = torch.zeros_like(normed_BLD)
        for shift, weight_D in zip(self.AROUND, self.around, strict=True):
            moved_BLD = F.pad(normed_BLD, (0, 0, max(-shift, 0), max(shift, 0)))[:, max(shift, 0) :][:, : normed_BLD.shape[1]]
            mixed_BLD = mixed_BLD + moved_BLD * weight_D
        told_BLD: Tensor = tokens_BLD + self.out(F.gelu(mixed_BLD))
        return told_BLD


def earlier(outputs_BL: Tensor, back: int) -> Tensor:
    """The outputs so many places before, END (0) before the beginning."""
    return F.pad(outputs_BL, (back, 0))[:, : outputs_BL.shape[1]]


def matched(history_BLP: Tensor, copied_BM: Tensor) -> Tensor:
    """How many of the outputs written last (history, the latest first) precede a copyable token without a gap, (B, L, M)."""
    return matched_before(history_BLP, torch.stack([earlier(copied_BM, back)[:, None] for back in range(1, history_BLP.shape[2] + 1)]))


def matched_before(history_BLP: Tensor, before_PB1M: Tensor) -> Tensor:
    """As `matched`, where the outputs before each copyable token are at hand, the nearest first; END (0) before the first."""
    depth_BLM: Tensor | None = None
    for back in range(history_BLP.shape[2] - 1, -1, -1):
        same_BLM = (history_BLP[:, :, back, None] == before_PB1M[back]).to(torch.uint8)
        depth_BLM = same_BLM if depth_BLM is None else same_BLM * (depth_BLM + 1)
    assert depth_BLM is not None
    return depth_BLM


def _positions(tokens_BLD: Tensor) -> Tensor:
    """Sines and cosines of the positions (L, D), as Vaswani et al. (2017) have them."""
    length, width = tokens_BLD.shape[1:]
    frequency_D = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=tokens_BLD.device) * (-math.log(10_000.0) / width))
    angle_LD = torch.arange(length, dtype=torch.float32, device=tokens_BLD.device)[:, None] * frequency_D
    return torch.cat([angle_LD.sin(), angle_LD.cos()], dim=1).to(tokens_BLD.dtype)
