"""The transformer that both modalities share: pre-norm layers with rotary positions whose branches open from zero."""

# Shape legend:  B items, L tokens, D width, H heads, E width of a head, P pairs of a head's numbers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.model.config import EncoderConfig


def rotate_by_position(heads_BHLE: Tensor) -> Tensor:
    """Turn pairs of numbers by angles that grow with the token's position, so that attention sees distances only (RoPE, arXiv 2104.09864)."""
    length, size = heads_BHLE.shape[-2:]
    frequencies_P = 10_000.0 ** (-torch.arange(0, size, 2, device=heads_BHLE.device, dtype=torch.float32) / size)
    angles_LP = torch.arange(length, device=heads_BHLE.device, dtype=torch.float32)[:, None] * frequencies_P
    cos_LP, sin_LP = angles_LP.cos().to(heads_BHLE.dtype), angles_LP.sin().to(heads_BHLE.dtype)
    first_BHLP, second_BHLP = heads_BHLE.chunk(2, dim=-1)
    return torch.cat([first_BHLP * cos_LP - second_BHLP * sin_LP, first_BHLP * sin_LP + second_BHLP * cos_LP], dim=-1)


class GatedLayer(nn.Module):
    """Self-attention and feed-forward, each added through a gate that starts at zero: at first the layer changes nothing (arXiv 2003.04887)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.query_key_value = nn.Linear(config.width, 3 * config.attention_width, bias=False)
        self.attention_out = nn.Linear(config.attention_width, config.width, bias=False)
        self.attention_gate = nn.Parameter(torch.zeros(config.width))
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.feed_forward_in = nn.Linear(config.width, config.feed_forward_width)
        self.feed_forward_out = nn.Linear(config.feed_forward_width, config.width)
        self.feed_forward_gate = nn.Parameter(torch.zeros(config.width))

    def forward(self, tokens_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return tokens of the same shape; padded tokens (mask False) are never attended to."""
        batch, length, _ = tokens_BLD.shape
        projected = self.query_key_value(self.attention_norm(tokens_BLD)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query_BHLE, key_BHLE, value_BHLE = projected.unbind(0)
        attended_BHLE = F.scaled_dot_product_attention(
            rotate_by_position(query_BHLE), rotate_by_position(key_BHLE), value_BHLE, attn_mask=mask_BL[:, None, None, :]
        )
        attended_BLA = attended_BHLE.transpose(1, 2).reshape(batch, length, -1)
        tokens_BLD = tokens_BLD + self.attention_gate * self.attention_out(attended_BLA)
        hidden_BLF = F.gelu(self.feed_forward_in(self.feed_forward_norm(tokens_BLD)))
        fed_BLD: Tensor = self.feed_forward_gate * self.feed_forward_out(hidden_BLF)
        return tokens_BLD + fed_BLD


class Backbone(nn.Module):
    """A stack of gated layers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GatedLayer(config) for _ in range(config.layers))

    def forward(self, tokens_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return contextual tokens; what stands on padded places is meaningless and must be masked by whoever reads it."""
        for layer in self.layers:
            tokens_BLD = layer(tokens_BLD, mask_BL)
        return tokens_BLD
