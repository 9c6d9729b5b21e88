"""The Atomas encoder: feature tables per modality, one shared transformer, masked pooling, one vector per item."""

# Shape legend:  B items, L tokens, T tokens of all items, F features of all tokens, D width, E dimension of the vectors, N table rows, U used rows
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.features import TokenFeatures
from encoder.model.alignment import Level
from encoder.model.backbone import Backbone
from encoder.model.config import EncoderConfig, Modality
from encoder.model.hierarchy import Hierarchy


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Items of one modality as tensors: the ragged features of every token."""

    ids_F: Tensor
    weights_F: Tensor
    offsets_T: Tensor
    mass_T: Tensor
    mask_BL: Tensor

    @classmethod
    def from_features(cls, features: TokenFeatures) -> "TokenBatch":
        """Convert ragged arrays; the padded length is that of the longest item."""
        counts = torch.from_numpy(features.token_counts)
        offsets = torch.from_numpy(features.feature_counts).cumsum(0) - torch.from_numpy(features.feature_counts)
        mask_BL = torch.arange(int(counts.max()) if len(counts) else 0)[None, :] < counts[:, None]
        return cls(torch.from_numpy(features.ids), torch.from_numpy(features.weights), offsets, torch.from_numpy(features.mass), mask_BL)

    def to(self, device: torch.device) -> "TokenBatch":
        """Move to a device."""
        return TokenBatch(*(getattr(self, name).to(device) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class EncodedItems:
    """Contextual tokens, which of them are real, and one normalised vector per item."""

    tokens_BLD: Tensor
    mask_BL: Tensor
    mass_BL: Tensor
    vectors_BE: Tensor


class Tower(nn.Module):
    """What is particular to a modality: its feature table, its pooling weights and its projection head."""

    def __init__(self, rows: int, config: EncoderConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(rows, config.width))
        if not self.table.is_meta:
            # Without memory there is nothing to fill, and torch would load its whole compiler to say so: seconds of every start.
            nn.init.normal_(self.table, std=0.02)
        # Without layers a token says nothing about its neighbours, and pooling by mass is all there is to learn: the plain bag.
        self.importance = nn.Linear(config.width, 1, bias=False) if config.layers else None
        if self.importance is not None:
            nn.init.zeros_(self.importance.weight)
        self.widen = nn.Linear(config.width, config.head_width)
        self.norm = nn.LayerNorm(config.head_width)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(config.head_width, config.head_width)
        self.out = nn.Linear(config.head_width, config.dimension)

    def bag(self, batch: TokenBatch) -> Tensor:
        """Return the bag of each item's features, (B, D): what `pool` gives for plain embeddings, without building any token."""
        last_T = torch.cat([batch.offsets_T[1:], batch.offsets_T.new_tensor([len(batch.ids_F)])])
        weights_F = batch.weights_F * batch.mass_T.repeat_interleave(last_T - batch.offsets_T)
        first_token_B = batch.mask_BL.sum(1).cumsum(0) - batch.mask_BL.sum(1)
        return F.embedding_bag(batch.ids_F, self.table, batch.offsets_T[first_token_B], mode="sum", per_sample_weights=weights_F)

    def embed(self, batch: TokenBatch) -> Tensor:
        """Return token embeddings (B, L, D), zero on padding."""
        tokens_TD = F.embedding_bag(batch.ids_F, self.table, batch.offsets_T, mode="sum", per_sample_weights=batch.weights_F)
        tokens_BLD = tokens_TD.new_zeros(*batch.mask_BL.shape, tokens_TD.shape[-1])
        tokens_BLD[batch.mask_BL] = tokens_TD
        return tokens_BLD

    def pool(self, tokens_BLD: Tensor, mass_BL: Tensor) -> Tensor:
        """Sum tokens by attention that starts as each token's mass: with zero `importance` the result is the bag of features, (B, D).

        Padding has no mass, so an item's vector depends on its own tokens alone.
        """
        if self.importance is None:
            return torch.einsum("bl,bld->bd", mass_BL, tokens_BLD)
        scores_BL = self.importance(tokens_BLD).squeeze(-1).masked_fill(mass_BL <= 0, float("-inf"))
        scores_BL = scores_BL - scores_BL.amax(dim=1, keepdim=True).detach().clamp_min(torch.finfo(scores_BL.dtype).min)
        weights_BL = mass_BL * scores_BL.exp()
        total_B1 = mass_BL.sum(1, keepdim=True)
        weights_BL = weights_BL / weights_BL.sum(1, keepdim=True).clamp_min(1e-12) * total_B1
        return torch.einsum("bl,bld->bd", weights_BL, tokens_BLD)

    def project(self, pooled_BD: Tensor) -> Tensor:
        """Return normalised vectors (B, E)."""
        hidden_BH = F.gelu(self.norm(self.widen(pooled_BD)))
        return F.normalize(self.out(hidden_BH + F.gelu(self.hidden(self.dropout(hidden_BH)))), dim=-1)


class AtomasEncoder(nn.Module):
    """One encoder for texts and molecules (Atomas, section 3.2); see `encoder/README.md` for the paper's symbols."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({"text": Tower(config.text_features, config), "molecule": Tower(config.molecule_features, config)})
        self.backbone = Backbone(config)
        self.hierarchy = Hierarchy(config.width, config.hierarchy_width) if config.hierarchy_width else None
        # exp(2.659) = 1 / 0.07, the initial temperature of the paper.
        self.log_scale = nn.Parameter(torch.tensor(2.659))

    def tower(self, modality: Modality) -> Tower:
        """Return the parts of one modality."""
        tower = self.towers[modality]
        assert isinstance(tower, Tower)
        return tower

    def vectors(self, modality: Modality, batch: TokenBatch) -> Tensor:
        """Return the vectors (B, E) alone, by the shortest way."""
        if self.config.layers:
            return self(modality, batch).vectors_BE  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
        tower = self.tower(modality)
        return tower.project(tower.bag(batch))

    def forward(self, modality: Modality, batch: TokenBatch) -> EncodedItems:
        """Encode a batch of one modality."""
        tower = self.tower(modality)
        return self.encode_tokens(modality, tower.embed(batch), batch)

    def levels(self, modality: Modality, encoded: EncodedItems) -> tuple[Level, ...]:
        """Return the hierarchy's levels of encoded items; ValueError when the model has none."""
        return self._hierarchy().levels(modality, encoded.tokens_BLD, encoded.mask_BL, encoded.mass_BL)

    def vectors_and_fragments(self, modality: Modality, batch: TokenBatch) -> tuple[Tensor, Level]:
        """Return the vectors (B, E) and level 1 of the hierarchy; ValueError when the model has none."""
        hierarchy = self._hierarchy()
        if self.config.layers:
            encoded = self(modality, batch)
            return encoded.vectors_BE, hierarchy.fragments(modality, encoded.tokens_BLD, encoded.mask_BL, encoded.mass_BL)
        # Without layers the vector needs no token: the bag is shorter, and what `vectors` gives.
        tokens_BLD = self.tower(modality).embed(batch)
        return self.vectors(modality, batch), hierarchy.fragments(modality, tokens_BLD, batch.mask_BL, _padded_mass(tokens_BLD, batch))

    def _hierarchy(self) -> Hierarchy:
        if self.hierarchy is None:
            raise ValueError("this model has no hierarchy; train one on it with `python -m encoder train hierarchy`")
        return self.hierarchy

    def encode_tokens(self, modality: Modality, embedded_BLD: Tensor, batch: TokenBatch) -> EncodedItems:
        """Encode token embeddings that were looked up already."""
        tower = self.tower(modality)
        tokens_BLD = self.backbone(embedded_BLD, batch.mask_BL)
        mass_BL = _padded_mass(tokens_BLD, batch)
        return EncodedItems(tokens_BLD, batch.mask_BL, mass_BL, tower.project(tower.pool(tokens_BLD, mass_BL)))

    def encode_ragged(
        self, modality: Modality, tokens_TD: Tensor, mass_T: Tensor, token_counts_B: Tensor, pass_tokens: int = 8192
    ) -> Tensor:
        """Return the vectors (B, E) of items whose token embeddings lie one after the other.

        Items of like length share a pass of at most `pass_tokens` tokens, so that one long item does not pad all others.
        """
        tower = self.tower(modality)
        starts_B = token_counts_B.cumsum(0) - token_counts_B
        order_B = token_counts_B.argsort(descending=True, stable=True)
        pooled: list[Tensor] = []
        done = 0
        while done < len(order_B):
            longest = int(token_counts_B[order_B[done]])
            rows_b = order_B[done : done + max(1, pass_tokens // longest)]
            done += len(rows_b)
            positions_L = torch.arange(longest, device=tokens_TD.device)
            mask_bL = positions_L < token_counts_B[rows_b, None]
            # Padding repeats an item's last token, which the mask hides: no zeros need to be made.
            places_bL = starts_B[rows_b, None] + positions_L.minimum(token_counts_B[rows_b, None] - 1)
            tokens_bLD = self.backbone(tokens_TD[places_bL], mask_bL)
            pooled.append(tower.pool(tokens_bLD, mass_T[places_bL] * mask_bL))
        return tower.project(torch.cat(pooled)[order_B.argsort()])


def _padded_mass(tokens_BLD: Tensor, batch: TokenBatch) -> Tensor:
    mass_BL = tokens_BLD.new_zeros(batch.mask_BL.shape)
    mass_BL[batch.mask_BL] = batch.mass_T
    return mass_BL
