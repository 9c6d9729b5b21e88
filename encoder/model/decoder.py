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

from encoder.model.decoder_state import FIRST_ROOM, DecoderState
from encoder.model.reader import MATCHED, Reader, earlier, matched, matched_before
from encoder.model.source import Source

END = 0
"""Output that closes every sequence; token i of the task's vocabulary is output i + 1."""


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
        before_PBM = torch.stack([earlier(source.copied_BM, back) for back in range(1, MATCHED + 1)])
        return DecoderState(
            source,
            self.prefix[task] + self.manner[source.manner_B],
            outputs_VD,
            bias_B11S,
            cross,
            copy_keys_BMD.transpose(1, 2).contiguous() * self.config.width**-0.5,
            _uncopyable(source),
            before_PBM[:, :, None],
            self._whole_rotations(0, FIRST_ROOM, outputs_VD),
            [],
            torch.empty(0, MATCHED, dtype=torch.long),
        )

    def step(self, state: DecoderState, last_BN: Tensor) -> Tensor:
        """Log-probabilities (B, N, V) of the next output after the outputs written last; the first step takes them for the prefix.

        The shape of the first `last_BN` fixes the number of rows of each item; its content does not matter. Without dropout, whatever the mode.
        """
        source, batch, rows = state.source, *last_BN.shape
        if state.length:
            last_R = last_BN.flatten()
            hidden_RD = self._embed(last_R, state.outputs_VD)
            state.last_RP = torch.cat([last_R[:, None], state.last_RP[:, :-1]], dim=1)
        else:
            hidden_RD = state.first_BD.repeat_interleave(rows, dim=0)
            state.last_RP = torch.full((batch * rows, MATCHED), END, device=last_BN.device)
        if state.length == len(state.rotations[0]):
            more = self._whole_rotations(state.length, 2 * state.length, hidden_RD)
            state.rotations = torch.cat([state.rotations[0], more[0]]), torch.cat([state.rotations[1], more[1]])
        for index, layer in enumerate(self._layers()):
            hidden_RD = layer.step(hidden_RD, state, index)
        state.length += 1
        hidden_RD = self.norm(hidden_RD)
        logits_BNV = (hidden_RD @ state.outputs_VD.T).view(batch, rows, -1)
        if source.copied_BM.shape[1] == 0:
            alone_BNV: Tensor = logits_BNV.log_softmax(dim=2)
            return alone_BNV
        copies_BNM = self.copy_query(hidden_RD).view(batch, rows, -1) @ state.copy_keys_BDM
        depth_BNM = matched_before(state.last_RP.view(batch, rows, -1), state.before_PB1M)
        copies_BNM = copies_BNM + self.match(hidden_RD).view(batch, rows, 1) * depth_BNM
        copies_BNM = copies_BNM.masked_fill(state.uncopyable_B1M, torch.finfo(copies_BNM.dtype).min / 2)
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
        return logits_BLM.masked_fill(_uncopyable(source), torch.finfo(logits_BLM.dtype).min / 2)

    def _whole_rotations(self, first: int, end: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (end - first, D/H) of the positions from `first` on: those of both halves of a head's width."""
        cosine_LD, sine_LD = _rotation(first, end - first, self.config.width // self.config.heads, like)
        return torch.cat([cosine_LD, cosine_LD], dim=1), torch.cat([-sine_LD, sine_LD], dim=1)

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

    def step(self, hidden_RD: Tensor, state: DecoderState, index: int) -> Tensor:
        """One more token of every row; its keys and values go to place `index` of the state. The mathematics of `forward`, without dropout."""
        rows, width = hidden_RD.shape
        items = len(state.source)
        parts_R3HD = F.linear(self.self_norm(hidden_RD), self.self_in.weight).view(rows, 3, self.heads, -1)
        cosine_D, sine_D = state.rotation
        query_key_R2HD = parts_R3HD[:, :2]
        # The halves of every head change places and meet the sines of their own sign: one rotation of queries and keys together.
        turned_R2HD = query_key_R2HD.roll(width // self.heads // 2, dims=3)
        query_key_R2HD = torch.addcmul(query_key_R2HD * cosine_D, turned_R2HD, sine_D)
        keys_values = state.append(index, query_key_R2HD[:, 1], parts_R3HD[:, 2])
        attended_RH1D = F.scaled_dot_product_attention(query_key_R2HD[:, 0, :, None], *keys_values)
        hidden_RD = hidden_RD + F.linear(attended_RH1D.view(rows, width), self.self_out.weight)
        query_BHND = (
            F.linear(self.cross_norm(hidden_RD), self.cross_query.weight).view(items, -1, self.heads, width // self.heads).transpose(1, 2)
        )
        read_BHND = F.scaled_dot_product_attention(query_BHND, *state.cross, attn_mask=state.bias_B11S)
        hidden_RD = hidden_RD + F.linear(read_BHND.transpose(1, 2).reshape(rows, width), self.cross_out.weight)
        gate_RD, content_RD = F.linear(self.feed_norm(hidden_RD), self.feed_in.weight).chunk(2, dim=1)
        return hidden_RD + F.linear(F.gelu(gate_RD) * content_RD, self.feed_out.weight)

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


def _uncopyable(source: Source) -> Tensor:
    """True (B, 1, M) on padding, and on the end of a neighbour's text, or of the part of it that is read: it says nothing of where this text ends."""
    return ~(source.copied_mask_BM & (source.copied_BM != END))[:, None]


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
