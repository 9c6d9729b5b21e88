"""Decoder of both directions: writes texts of molecules and molecules of texts, token by token, over the encoder's tokens."""

# Shape legend:  B items, N rows of one item (beams or samples), R = B x N rows, L tokens written, E encoder tokens, C encoder width,
#                D width, H heads, V outputs of a task (END, then its tokens)

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

END = 0
"""Output that closes every sequence; token i of the task's vocabulary is output i + 1."""
FIRST_ROOM = 32
"""Tokens for which incremental decoding makes room at first."""


class Task(IntEnum):
    """What the decoder is asked to write; each task has its own first input, the prefix."""

    DESCRIBE = 0
    """Molecule to text."""
    GENERATE = 1
    """Text to molecule."""


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of the decoder."""

    text_vocabulary: int
    """Number of text tokens that can be written."""
    smiles_vocabulary: int
    """Number of SMILES tokens that can be written."""
    encoder_width: int
    """Width of the encoder's tokens that it reads."""
    width: int = 256
    """Width of its own tokens."""
    layers: int = 2
    """Number of layers, each of self-attention, cross-attention and a gated feed-forward network."""
    heads: int = 4
    """Attention heads; each takes an even part of the width."""
    feed_forward: int = 512
    """Hidden width of the feed-forward network."""
    dropout: float = 0.1
    """Share of activations dropped in training."""

    def vocabulary(self, task: Task) -> int:
        """Number of tokens that the task writes with."""
        return self.text_vocabulary if task == Task.DESCRIBE else self.smiles_vocabulary


def pad_targets(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Training targets (B, L) of token ids, each closed by END, and their mask (B, L), True where real."""
    length = max(map(len, sequences)) + 1
    targets_BL = torch.full((len(sequences), length), END)
    mask_BL = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, ids in enumerate(sequences):
        targets_BL[row, : len(ids)] = torch.as_tensor(ids, dtype=torch.long) + 1
        mask_BL[row, : len(ids) + 1] = True
    return targets_BL, mask_BL


@dataclass
class DecoderState:
    """What incremental decoding remembers; rows are grouped by item."""

    task: Task
    outputs_VD: Tensor
    """Embeddings of what the task can write."""
    bias_B11E: Tensor
    """Zero on real encoder tokens, as good as minus infinity on padding."""
    cross: list[tuple[Tensor, Tensor]]
    """Per layer, keys and values (B, H, E, D/H) of the encoder's tokens, shared by the rows of an item."""
    written: list[Tensor]
    """Per layer, keys and values (2, R, H, room, D/H) of the tokens written so far, with room for more."""
    length: int = 0
    """Inputs taken so far, the prefix included."""

    def append(self, layer: int, key_RH1D: Tensor, value_RH1D: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of the present token; returns those of all tokens so far, (R, H, length + 1, D/H) each."""
        if self.length == 0:
            rows, heads, _, width = key_RH1D.shape
            self.written.append(key_RH1D.new_empty(2, rows, heads, FIRST_ROOM, width))
        # Room doubles when it is used up: making longer tensors at every step would cost more than all the rest.
        elif self.length == self.written[layer].shape[3]:
            self.written[layer] = torch.cat([self.written[layer], torch.empty_like(self.written[layer])], dim=3)
        self.written[layer][0, :, :, self.length : self.length + 1] = key_RH1D
        self.written[layer][1, :, :, self.length : self.length + 1] = value_RH1D
        key, value = self.written[layer][:, :, :, : self.length + 1]
        return key, value

    def select_rows(self, rows_R: Tensor) -> None:
        """Continue from these rows: indices into the present ones, which stay with their items."""
        self.written = [keys_values[:, rows_R] for keys_values in self.written]

    def select_items(self, items_B: Tensor) -> None:
        """Drop all items but these (indices into the present ones), with their rows."""
        rows = self.written[0].shape[1] // self.bias_B11E.shape[0]
        self.select_rows((items_B[:, None] * rows + torch.arange(rows, device=items_B.device)).flatten())
        self.bias_B11E = self.bias_B11E[items_B]
        self.cross = [(key[items_B], value[items_B]) for key, value in self.cross]


class Decoder(nn.Module):
    """A T5-style decoder (pre-norm, no biases, gated feed-forward, tied embeddings) with rotary positions.

    One set of weights serves both directions. The prefix of the task begins every sequence, and only what the task can write is scored: a
    molecule never holds a word, nor does its computation pay for the words.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        if config.width % (2 * config.heads):
            raise ValueError(f"width {config.width} does not give each of {config.heads} heads an even part")
        self.config = config
        self.prefix = nn.Embedding(len(Task), config.width)
        self.end = nn.Parameter(torch.randn(1, config.width))
        self.tokens = nn.ParameterList(torch.randn(config.vocabulary(task), config.width) for task in Task)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, targets_BL: Tensor, task: Task, encoder_BEC: Tensor, encoder_mask_BE: Tensor) -> Tensor:
        """Logits (B, L, V) of the targets (`pad_targets`), each from those before it: position i predicts target i."""
        outputs_VD = self._outputs(task)
        before_BLD = F.embedding(targets_BL[:, :-1], outputs_VD)
        prefix_B1D = self.prefix.weight[task].expand(len(targets_BL), 1, -1)
        hidden_BLD = self.dropout(torch.cat([prefix_B1D, before_BLD], dim=1))
        bias_B11E = _padding_bias(encoder_mask_BE, hidden_BLD.dtype)
        rotation = _rotation(0, targets_BL.shape[1], self.config.width // self.config.heads, hidden_BLD)
        for layer in self._layers():
            hidden_BLD = layer(hidden_BLD, rotation, layer.read(encoder_BEC), bias_B11E)
        return self._logits(hidden_BLD, outputs_VD)

    def start(self, task: Task, encoder_BEC: Tensor, encoder_mask_BE: Tensor) -> DecoderState:
        """Prepare incremental decoding: the encoder's keys and values are computed once per item, however many rows it will have."""
        bias_B11E = _padding_bias(encoder_mask_BE, encoder_BEC.dtype)
        return DecoderState(task, self._outputs(task), bias_B11E, [layer.read(encoder_BEC) for layer in self._layers()], [])

    def step(self, state: DecoderState, last_BN: Tensor) -> Tensor:
        """Log-probabilities (B, N, V) of the next output after the outputs written last; the first step takes them for the prefix.

        The shape of the first `last_BN` fixes the number of rows of each item; its content does not matter.
        """
        prefix_D = self.prefix.weight[state.task]
        hidden_BND = F.embedding(last_BN, state.outputs_VD) if state.length else prefix_D.expand(*last_BN.shape, -1)
        rotation = _rotation(state.length, 1, self.config.width // self.config.heads, hidden_BND)
        for index, layer in enumerate(self._layers()):
            hidden_BND = layer.step(hidden_BND, state, index, rotation)
        state.length += 1
        return self._logits(hidden_BND, state.outputs_VD).float().log_softmax(dim=2)

    def _layers(self) -> "list[_Layer]":
        return [layer for layer in self.layers if isinstance(layer, _Layer)]

    def _outputs(self, task: Task) -> Tensor:
        return torch.cat([self.end, self.tokens[task]])

    def _logits(self, hidden_BLD: Tensor, outputs_VD: Tensor) -> Tensor:
        # T5's factor for tied embeddings: they are drawn at scale 1, and logits should start near scale 1 too.
        logits_BLV: Tensor = self.dropout(self.norm(hidden_BLD)) * self.config.width**-0.5 @ outputs_VD.T
        return logits_BLV


class _Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.dropout = nn.Dropout(config.dropout)
        self.self_norm, self.cross_norm, self.feed_norm = nn.RMSNorm(width), nn.RMSNorm(width), nn.RMSNorm(width)
        self.self_in = nn.Linear(width, 3 * width, bias=False)
        self.self_out = nn.Linear(width, width, bias=False)
        self.cross_query = nn.Linear(width, width, bias=False)
        self.cross_key_value = nn.Linear(config.encoder_width, 2 * width, bias=False)
        self.cross_out = nn.Linear(width, width, bias=False)
        self.feed_in = nn.Linear(width, 2 * config.feed_forward, bias=False)
        self.feed_out = nn.Linear(config.feed_forward, width, bias=False)

    def read(self, encoder_BEC: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's tokens."""
        key_BED, value_BED = self.cross_key_value(encoder_BEC).chunk(2, dim=2)
        return self._split_heads(key_BED), self._split_heads(value_BED)

    def forward(self, hidden_BLD: Tensor, rotation: tuple[Tensor, Tensor], cross: tuple[Tensor, Tensor], bias_B11E: Tensor) -> Tensor:
        """Whole sequences at once, each token seeing those before it."""
        query, key, value = map(self._split_heads, self.self_in(self.self_norm(hidden_BLD)).chunk(3, dim=2))
        attended = F.scaled_dot_product_attention(_rotate(query, rotation), _rotate(key, rotation), value, is_causal=True)
        hidden_BLD = hidden_BLD + self.dropout(self.self_out(_join_heads(attended)))
        return self._read_and_feed(hidden_BLD, cross, bias_B11E)

    def step(self, hidden_BND: Tensor, state: DecoderState, index: int, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """One more token of every row; its keys and values go to place `index` of the state."""
        hidden_R1D = self.self_norm(hidden_BND).flatten(0, 1)[:, None]
        query, key, value = map(self._split_heads, self.self_in(hidden_R1D).chunk(3, dim=2))
        attended = F.scaled_dot_product_attention(_rotate(query, rotation), *state.append(index, _rotate(key, rotation), value))
        hidden_BND = hidden_BND + self.self_out(_join_heads(attended)).view_as(hidden_BND)
        return self._read_and_feed(hidden_BND, state.cross[index], state.bias_B11E)

    def _read_and_feed(self, hidden_BLD: Tensor, cross: tuple[Tensor, Tensor], bias_B11E: Tensor) -> Tensor:
        # Positions play no part here, so the rows of an item can be its queries and share its keys: no copy of the encoder per beam.
        query = self._split_heads(self.cross_query(self.cross_norm(hidden_BLD)))
        read = F.scaled_dot_product_attention(query, *cross, attn_mask=bias_B11E)
        hidden_BLD = hidden_BLD + self.dropout(self.cross_out(_join_heads(read)))
        gate, content = self.feed_in(self.feed_norm(hidden_BLD)).chunk(2, dim=2)
        fed: Tensor = hidden_BLD + self.dropout(self.feed_out(self.dropout(F.gelu(gate) * content)))
        return fed

    def _split_heads(self, hidden_BLD: Tensor) -> Tensor:
        return hidden_BLD.reshape(*hidden_BLD.shape[:2], self.heads, -1).transpose(1, 2)


def _join_heads(hidden_BHLD: Tensor) -> Tensor:
    return hidden_BHLD.transpose(1, 2).flatten(2)


def _padding_bias(mask_BE: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask_BE.shape, dtype=dtype, device=mask_BE.device).masked_fill(~mask_BE, torch.finfo(dtype).min)[:, None, None, :]


def _rotation(first_position: int, length: int, head_width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (L, D/H/2) of rotary positions (Su et al., 2021): attention sees only how far apart two tokens are."""
    frequency_D = 10_000.0 ** (-torch.arange(0, head_width, 2, device=like.device, dtype=torch.float32) / head_width)
    position_L = torch.arange(first_position, first_position + length, device=like.device, dtype=torch.float32)
    angle_LD = position_L[:, None] * frequency_D
    return angle_LD.cos().to(like.dtype), angle_LD.sin().to(like.dtype)


def _rotate(vectors_BHLD: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine_LD, sine_LD = rotation
    left, right = vectors_BHLD.chunk(2, dim=3)
    return torch.cat([left * cosine_LD - right * sine_LD, left * sine_LD + right * cosine_LD], dim=3)
