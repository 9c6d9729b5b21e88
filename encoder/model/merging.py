"""Adaptive merging: tokens become clusters by density peaks, and clusters become the tokens of the next level."""

# Shape legend:  B items, L tokens, K clusters, D width, H heads, N neighbours of a token

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Squared distances are counted in steps of 1/1024 of the mean square of a normalised token. Equal atoms of a symmetric molecule are at
# equal distances, and rounding noise that changes with the padding would otherwise decide which of them becomes a centre.
DISTANCE_STEPS = 1024


@dataclass(frozen=True)
class MergedTokens:
    """Clusters of a batch and the way back to the tokens they were made of."""

    tokens_BKD: Tensor
    """Cluster tokens in the order of their centres; zero on padding."""
    mask_BK: Tensor
    """True where a cluster is real."""
    assignment_BL: Tensor
    """Cluster index of every token, -1 on padding."""
    weights_BL: Tensor
    """Share of every token in its cluster: sums to one within a cluster, zero on padding."""


def cluster_counts(mask_BL: Tensor, ratio: float) -> Tensor:
    """Number of clusters (B,) of each item: the ratio of its real length, rounded up, so at least one wherever a token is real."""
    # The small subtraction keeps 0.07 x 100 = 7.000000000000001 from becoming eight clusters.
    return torch.ceil(mask_BL.sum(dim=1).double() * ratio - 1e-9).long()


def density_peak_clusters(tokens_BLD: Tensor, mask_BL: Tensor, counts_B: Tensor, neighbours: int) -> Tensor:
    """Assign every token to one of its item's clusters (DPC-KNN: Du, Ding and Jia, 2016); returns (B, L), -1 on padding.

    Density is exp(-mean squared distance to the nearest neighbours); a centre is dense and far from any denser token. Clusters are numbered
    in the order of their centres. Ties go to the lower index, so the answer depends on the tokens alone.
    """
    length = tokens_BLD.shape[1]
    distance_BLL = _squared_distances(tokens_BLD)
    both_real_BLL = mask_BL[:, :, None] & mask_BL[:, None, :]
    distance_BLL = distance_BLL.masked_fill(~both_real_BLL, math.inf)

    density_BL = _densities(distance_BLL, neighbours)
    index_L = torch.arange(length, device=tokens_BLD.device)
    earlier_LL = index_L[None, :] < index_L[:, None]
    other_BLL, own_BLL = density_BL[:, None, :], density_BL[:, :, None]
    denser_BLL = both_real_BLL & ((other_BLL > own_BLL) | ((other_BLL == own_BLL) & earlier_LL))
    to_denser_BL = distance_BLL.masked_fill(~denser_BLL, math.inf).amin(dim=2)
    # The densest token of an item has none denser; its distance is the item's largest, which makes it the first centre.
    largest_B1 = distance_BLL.masked_fill(~both_real_BLL, 0.0).amax(dim=(1, 2))[:, None]
    to_denser_BL = torch.minimum(to_denser_BL, largest_B1)
    score_BL = (density_BL * to_denser_BL.sqrt()).masked_fill(~mask_BL, -1.0)

    rank_BL = score_BL.sort(dim=1, descending=True, stable=True).indices.argsort(dim=1)
    centre_BL = (rank_BL < counts_B[:, None]) & mask_BL
    cluster_of_centre_BL = centre_BL.cumsum(dim=1) - 1
    nearest_BL = distance_BLL.masked_fill(~centre_BL[:, None, :], math.inf).argmin(dim=2)
    assignment_BL = cluster_of_centre_BL.gather(1, nearest_BL)
    # A centre keeps its own cluster even when an equal token before it is a centre too: no cluster is ever empty.
    assignment_BL = torch.where(centre_BL, cluster_of_centre_BL, assignment_BL)
    return assignment_BL.masked_fill(~mask_BL, -1)


def _squared_distances(tokens_BLD: Tensor) -> Tensor:
    """Mean squared difference of every two tokens in float64, rounded to `DISTANCE_STEPS`."""
    tokens_BLD = tokens_BLD.double()
    square_BL = tokens_BLD.square().mean(dim=2)
    product_BLL = tokens_BLD @ tokens_BLD.transpose(1, 2) / tokens_BLD.shape[2]
    distance_BLL = (square_BL[:, :, None] + square_BL[:, None, :] - 2 * product_BLL).clamp_min(0.0)
    return torch.round(distance_BLL * DISTANCE_STEPS) / DISTANCE_STEPS


def _densities(distance_BLL: Tensor, neighbours: int) -> Tensor:
    itself_LL = torch.eye(distance_BLL.shape[1], dtype=torch.bool, device=distance_BLL.device)
    nearest_BLN = distance_BLL.masked_fill(itself_LL, math.inf).topk(min(neighbours, distance_BLL.shape[1]), dim=2, largest=False).values
    # A short item has fewer real neighbours than asked for; the mean goes over those it has. The sum of rounded distances is exact.
    is_neighbour_BLN = nearest_BLN.isfinite()
    total_BL = nearest_BLN.masked_fill(~is_neighbour_BLN, 0.0).sum(dim=2)
    return torch.exp(-total_BL / is_neighbour_BLN.sum(dim=2).clamp_min(1))


class AdaptiveMerging(nn.Module):
    """Takes the tokens of one level to the next (Atomas, adaptive polymerisation): convolve, score, cluster, merge, attend.

    A share `ratio` of an item's real tokens remains. The result of an item does not depend on its padding or its neighbours in the batch.
    """

    def __init__(self, width: int, ratio: float, heads: int, neighbours: int = 3) -> None:
        super().__init__()
        if not 0.0 < ratio <= 1.0:
            raise ValueError(f"ratio must lie in (0, 1], not {ratio}")
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, not {neighbours}")
        self.ratio, self.heads, self.neighbours = ratio, heads, neighbours
        self.convolution = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        self.query_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens_BLD: Tensor, mask_BL: Tensor) -> MergedTokens:
        """Merge (B, L, D) tokens whose mask (B, L) is True where real; an item without real tokens has no clusters."""
        # Zeroed padding is what the convolution sees beyond the ends of a sequence, so padding cannot leak into the last token.
        tokens_BLD = tokens_BLD.masked_fill(~mask_BL[:, :, None], 0.0)
        tokens_BLD = self.norm(tokens_BLD + self.convolution(tokens_BLD.transpose(1, 2)).transpose(1, 2))
        score_BL = self.score(tokens_BLD).squeeze(2)

        counts_B = cluster_counts(mask_BL, self.ratio)
        clusters = max(int(counts_B.max()), 1)
        with torch.no_grad():
            assignment_BL = density_peak_clusters(tokens_BLD.detach(), mask_BL, counts_B, self.neighbours)
        index_K = torch.arange(clusters, device=tokens_BLD.device)
        mask_BK = index_K < counts_B[:, None]

        member_BKL = assignment_BL[:, None, :] == index_K[:, None]
        lowest = torch.finfo(score_BL.dtype).min
        # A softmax over the members is the mean weighted by exp(score), without the overflow of exp.
        share_BKL = score_BL[:, None, :].masked_fill(~member_BKL, lowest).softmax(dim=2).masked_fill(~member_BKL, 0.0)
        merged_BKD = share_BKL @ tokens_BLD
        merged_BKD = merged_BKD + self._attend(merged_BKD, tokens_BLD, score_BL.masked_fill(~mask_BL, lowest))
        return MergedTokens(merged_BKD.masked_fill(~mask_BK[:, :, None], 0.0), mask_BK, assignment_BL, share_BKL.sum(dim=1))

    def _attend(self, merged_BKD: Tensor, tokens_BLD: Tensor, score_BL: Tensor) -> Tensor:
        query_BHKD = self._split_heads(self.query(self.query_norm(merged_BKD)))
        key_BHLD, value_BHLD = map(self._split_heads, self.key_value(tokens_BLD).chunk(2, dim=2))
        bias_BHKL = score_BL[:, None, None, :].expand(-1, self.heads, merged_BKD.shape[1], -1)
        attended_BHKD = F.scaled_dot_product_attention(query_BHKD, key_BHLD, value_BHLD, attn_mask=bias_BHKL)
        out: Tensor = self.out(attended_BHKD.transpose(1, 2).flatten(2))
        return out

    def _split_heads(self, tokens_BLD: Tensor) -> Tensor:
        return tokens_BLD.view(*tokens_BLD.shape[:2], self.heads, -1).transpose(1, 2)
