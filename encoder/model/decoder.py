"""Decoder of both directions: writes texts of molecules and molecules of texts, token by token, over what it reads and may copy."""

# Shape legend:  B items, N rows of one item (beams or samples), R = B x N rows, L tokens written, S tokens read, M copyable tokens, D width,
#                H heads, V outputs of a task (END, then its tokens), P outputs that a match looks back at

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.model.reader import MATCHED, Reader, earlier, matched
from encoder.model.source import Source

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
    encoder_dimension: int
    """Dimension of the encoder's vectors that it reads."""
    width: int = 256
    """Width of its own tokens."""
    layers: int = 3
    """Number of layers, each of self-attention, cross-attention and a gated feed-forward network."""
    heads: int = 4
    """Attention heads; each takes an even part of the width."""
    feed_forward: int = 512
    """Hidden width of the feed-forward network."""
    dropout: float = 0.1
    """Share of activations dropped in training."""
    manners: int = 8
    """Manners of text that can be asked for."""
    neighbours: int = 16
    """Neighbours that can be told apart by rank; those beyond share the last."""

    def vocabulary(self, task: Task) -> int:
        """Number of tokens that the task writes with."""
        return self.text_vocabulary if task == Task.DESCRIBE else self.smiles_vocabulary

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DecoderConfig":
        """Read what `to_json` wrote; ValueError when fields are unknown or missing."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"unknown fields in the decoder configuration: {', '.join(unknown)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"the decoder configuration is incomplete: {error}") from error


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
    source: Source
    outputs_VD: Tensor
    """Embeddings of what the task can write."""
    bias_B11S: Tensor
    """Zero on real tokens of what is read, as good as minus infinity on padding."""
    cross: tuple[Tensor, Tensor]
    """Keys and values (B, H, S, D/H) of what is read, shared by the layers and by the rows of an item."""
    copy_keys_BMD: Tensor
    """Keys by which copyable tokens are chosen."""
    written: list[Tensor]
    """Per layer, keys and values (2, R, H, room, D/H) of the tokens written so far, with room for more."""
    last_RP: Tensor
    """The outputs written last, the latest first; END before the beginning."""
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
        self.last_RP = self.last_RP[rows_R]

    def select_items(self, items_B: Tensor) -> None:
        """Drop all items but these (indices into the present ones), with their rows."""
        rows = self.written[0].shape[1] // self.bias_B11S.shape[0]
        self.select_rows((items_B[:, None] * rows + torch.arange(rows, device=items_B.device)).flatten())
        self.source = self.source.select(items_B)
        self.bias_B11S, self.copy_keys_BMD = self.bias_B11S[items_B], self.copy_keys_BMD[items_B]
        self.cross = self.cross[0][items_B], self.cross[1][items_B]


class Decoder(nn.Module):
    """A T5-style decoder (pre-norm, no biases, gated feed-forward, tied embeddings) with rotary positions, that can also copy.

    One set of weights serves both directions. The prefix of the task begins every sequence, and only what the task can write is scored: a
    molecule never holds a word, nor does its computation pay for the words. One softmax runs over the outputs of the task and over the
    copyable tokens of the source together; an output's probability is its own plus that of all its copies.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        if config.width % (2 * config.heads):
            raise ValueError(f"width {config.width} does not give each of {config.heads} heads an even part")
        self.config = config
        scale = config.width**-0.5
        self.prefix = nn.Parameter(torch.randn(len(Task), config.width))
        self.manner = nn.Parameter(torch.randn(config.manners, config.width))
        self.end = nn.Parameter(torch.randn(1, config.width) * scale)
        self.tokens = nn.ParameterList(torch.randn(config.vocabulary(task), config.width) * scale for task in Task)
        self.reader = Reader(config.encoder_width, config.encoder_dimension, config.width, config.neighbours, config.dropout)
        self.cross_key_value = nn.Linear(config.width, 2 * config.width, bias=False)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.copy_query = nn.Linear(config.width, config.width, bias=False)
        self.copy_key = nn.Linear(config.width, config.width, bias=False)
        self.match = nn.Linear(config.width, 1)
        nn.init.zeros_(self.match.weight)
        nn.init.ones_(self.match.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, targets_BL: Tensor, task: Task, source: Source) -> Tensor:
        """Log-probabilities (B, L) of the targets (`pad_targets`), each from those before it."""
        outputs_VD = self._outputs(task)
        cross, bias_B11S, copy_keys_BMD = self._read(source, outputs_VD)
        before_BLD = self._embed(targets_BL[:, :-1], outputs_VD)
        first_B1D = (self.prefix[task] + self.manner[source.manner_B])[:, None]
        hidden_BLD = self.dropout(torch.cat([first_B1D, before_BLD], dim=1))
        rotation = _rotation(0, targets_BL.shape[1], self.config.width // self.config.heads, hidden_BLD)
        for layer in self._layers():
            hidden_BLD = layer(hidden_BLD, rotation, cross, bias_B11S)
        hidden_BLD = self.dropout(self.norm(hidden_BLD))
        logits_BLV = hidden_BLD @ outputs_VD.T
        own_BL = logits_BLV.gather(2, targets_BL[:, :, None]).squeeze(2)
        total_BL = logits_BLV.logsumexp(dim=2)
        if source.copied_BM.shape[1] == 0:
            alone_BL: Tensor = own_BL - total_BL
            return alone_BL
        history_BLP = torch.stack([earlier(targets_BL, back) for back in range(1, MATCHED + 1)], dim=2)
        copies_BLM = self._copy_logits(hidden_BLD, history_BLP, source, copy_keys_BMD)
        # The lowest finite number instead of minus infinity: a row without any copy would have NaN gradients.
        lowest = torch.finfo(copies_BLM.dtype).min / 2
        same_BLM = targets_BL[:, :, None] == source.copied_BM[:, None]
        copied_BL = copies_BLM.masked_fill(~same_BLM, lowest).logsumexp(dim=2)
        return torch.logaddexp(own_BL, copied_BL) - torch.logaddexp(total_BL, copies_BLM.logsumexp(dim=2))

    def start(self, task: Task, source: Source) -> DecoderState:
        """Prepare incremental decoding: what is read is read once per item, however many rows it will have."""
        outputs_VD = self._outputs(task)
        cross, bias_B11S, copy_keys_BMD = self._read(source, outputs_VD)
        return DecoderState(task, source, outputs_VD, bias_B11S, cross, copy_keys_BMD, [], torch.empty(0, MATCHED, dtype=torch.long))

    def step(self, state: DecoderState, last_BN: Tensor) -> Tensor:
        """Log-probabilities (B, N, V) of the next output after the outputs written last; the first step takes them for the prefix.

        The shape of the first `last_BN` fixes the number of rows of each item; its content does not matter.
        """
        source = state.source
        if state.length:
            hidden_BND = self._embed(last_BN, state.outputs_VD)
            state.last_RP = torch.cat([last_BN.reshape(-1, 1), state.last_RP[:, :-1]], dim=1)
        else:
            hidden_BND = (self.prefix[state.task] + self.manner[source.manner_B])[:, None].expand(*last_BN.shape, -1)
            state.last_RP = torch.full((last_BN.numel(), MATCHED), END, device=last_BN.device)
        rotation = _rotation(state.length, 1, self.config.width // self.config.heads, hidden_BND)
        for index, layer in enumerate(self._layers()):
            hidden_BND = layer.step(hidden_BND, state, index, rotation)
        state.length += 1
        hidden_BND = self.norm(hidden_BND)
        logits_BNV = hidden_BND @ state.outputs_VD.T
        if source.copied_BM.shape[1] == 0:
            alone_BNV: Tensor = logits_BNV.log_softmax(dim=2)
            return alone_BNV
        copies_BNM = self._copy_logits(hidden_BND, state.last_RP.view(*last_BN.shape, -1), source, state.copy_keys_BMD)
        outputs = logits_BNV.shape[2]
        both_BNX = torch.cat([logits_BNV, copies_BNM], dim=2).softmax(dim=2)
        own_BNV, copied_BNM = both_BNX[:, :, :outputs], both_BNX[:, :, outputs:]
        own_BNV = own_BNV.scatter_add(2, source.copied_BM[:, None].expand_as(copied_BNM), copied_BNM)
        return own_BNV.clamp_min(torch.finfo(own_BNV.dtype).tiny).log()

    def _read(self, source: Source, outputs_VD: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Keys and values for the layers, their padding bias, and the keys of copyable tokens."""
        memory_BSD, mask_BS = self.reader(source, self._embed(source.copied_BM, outputs_VD))
        key_BSD, value_BSD = self.cross_key_value(memory_BSD).chunk(2, dim=2)
        copy_keys_BMD = self.copy_key(memory_BSD[:, memory_BSD.shape[1] - source.copied_BM.shape[1] :])
        return (
            (_split_heads(key_BSD, self.config.heads), _split_heads(value_BSD, self.config.heads)),
            _bias(mask_BS, memory_BSD),
            copy_keys_BMD,
        )

    def _copy_logits(self, hidden_BLD: Tensor, history_BLP: Tensor, source: Source, copy_keys_BMD: Tensor) -> Tensor:
        """Logits (B, L, M) of the copyable tokens: chosen by what they are, and by whether what precedes them was just written."""
        logits_BLM: Tensor = self.copy_query(hidden_BLD) * self.config.width**-0.5 @ copy_keys_BMD.transpose(1, 2)
        logits_BLM = logits_BLM + self.match(hidden_BLD) * matched(history_BLP, source.copied_BM)
        # The end of a neighbour's text, or of the part of it that is read, says nothing about where this text ends.
        copyable_BM = source.copied_mask_BM & (source.copied_BM != END)
        return logits_BLM.masked_fill(~copyable_BM[:, None], torch.finfo(logits_BLM.dtype).min / 2)

    def _layers(self) -> "list[_Layer]":
        return [layer for layer in self.layers if isinstance(layer, _Layer)]

    def _outputs(self, task: Task) -> Tensor:
        return torch.cat([self.end, self.tokens[task]])

    def _embed(self, outputs_BL: Tensor, outputs_VD: Tensor) -> Tensor:
        # Tied embeddings: small enough for logits of scale 1, enlarged to scale 1 as inputs.
        embedded_BLD: Tensor = F.embedding(outputs_BL, outputs_VD) * self.config.width**0.5
        return embedded_BLD


class _Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.dropout = nn.Dropout(config.dropout)
        self.self_norm, self.cross_norm, self.feed_norm = nn.RMSNorm(width), nn.RMSNorm(width), nn.RMSNorm(width)
        self.self_in = nn.Linear(width, 3 * width, bias=False)
        self.self_out = nn.Linear(width, width, bias=False)
        self.cross_query = nn.Linear(width, width, bias=False)
        self.cross_out = nn.Linear(width, width, bias=False)
        self.feed_in = nn.Linear(width, 2 * config.feed_forward, bias=False)
        self.feed_out = nn.Linear(config.feed_forward, width, bias=False)

    def forward(self, hidden_BLD: Tensor, rotation: tuple[Tensor, Tensor], cross: tuple[Tensor, Tensor], bias_B11S: Tensor) -> Tensor:
        """Whole sequences at once, each token seeing those before it."""
        query, key, value = (_split_heads(part, self.heads) for part in self.self_in(self.self_norm(hidden_BLD)).chunk(3, dim=2))
        attended = F.scaled_dot_product_attention(_rotate(query, rotation), _rotate(key, rotation), value, is_causal=True)
        hidden_BLD = hidden_BLD + self.dropout(self.self_out(_join_heads(attended)))
        return self._read_and_feed(hidden_BLD, cross, bias_B11S)

    def step(self, hidden_BND: Tensor, state: DecoderState, index: int, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """One more token of every row; its keys and values go to place `index` of the state."""
        hidden_R1D = self.self_norm(hidden_BND).flatten(0, 1)[:, None]
        query, key, value = (_split_heads(part, self.heads) for part in self.self_in(hidden_R1D).chunk(3, dim=2))
        attended = F.scaled_dot_product_attention(_rotate(query, rotation), *state.append(index, _rotate(key, rotation), value))
        hidden_BND = hidden_BND + self.self_out(_join_heads(attended)).view_as(hidden_BND)
        return self._read_and_feed(hidden_BND, state.cross, state.bias_B11S)

    def _read_and_feed(self, hidden_BLD: Tensor, cross: tuple[Tensor, Tensor], bias_B11S: Tensor) -> Tensor:
        # Positions play no part here, so the rows of an item can be its queries and share its keys: no copy of what is read per beam.
        query = _split_heads(self.cross_query(self.cross_norm(hidden_BLD)), self.heads)
        read = F.scaled_dot_product_attention(query, *cross, attn_mask=bias_B11S)
        hidden_BLD = hidden_BLD + self.dropout(self.cross_out(_join_heads(read)))
        gate, content = self.feed_in(self.feed_norm(hidden_BLD)).chunk(2, dim=2)
        fed: Tensor = hidden_BLD + self.dropout(self.feed_out(self.dropout(F.gelu(gate) * content)))
        return fed


def _split_heads(hidden_BLD: Tensor, heads: int) -> Tensor:
    return hidden_BLD.reshape(*hidden_BLD.shape[:2], heads, -1).transpose(1, 2)


def _join_heads(hidden_BHLD: Tensor) -> Tensor:
    return hidden_BHLD.transpose(1, 2).flatten(2)


def _bias(mask_BS: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(mask_BS.shape, dtype=like.dtype, device=like.device).masked_fill(~mask_BS, torch.finfo(like.dtype).min)[
        :, None, None
    ]


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
