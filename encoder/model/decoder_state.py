"""What incremental decoding remembers of the rows that are being written, and what it would otherwise compute anew for every token."""

# Shape legend:  B items, N rows of one item (beams or samples), R = B x N rows, L tokens written, S tokens read, M copyable tokens, D width,
#                H heads, V outputs of a task, P outputs that a match looks back at

from dataclasses import dataclass

import torch
from torch import Tensor

from encoder.model.source import Source

FIRST_ROOM = 32
"""Tokens for which incremental decoding makes room at first."""


@dataclass
class DecoderState:
    """Rows are grouped by item: each item has as many, those of the first item come first."""

    source: Source
    first_BD: Tensor
    """What every row of an item begins with: the prefix of the task and the manner."""
    outputs_VD: Tensor
    """Embeddings of what the task can write."""
    bias_B11S: Tensor
    """Zero on real tokens of what is read, as good as minus infinity on padding."""
    cross: tuple[Tensor, Tensor]
    """Keys and values (B, H, S, D/H) of what is read, shared by the layers and by the rows of an item."""
    copy_keys_BDM: Tensor
    """Keys by which copyable tokens are chosen."""
    uncopyable_B1M: Tensor
    """True where a token cannot be copied: padding, and the ends of texts."""
    before_PB1M: Tensor
    """The outputs before each copyable token, the nearest first."""
    rotations: tuple[Tensor, Tensor]
    """Cosines and sines (room, D/H) of rotary positions, as many as there is room for."""
    written: list[Tensor]
    """Per layer, keys and values (2, R, H, room, D/H) of the tokens written so far, with room for more."""
    last_RP: Tensor
    """The outputs written last, the latest first; END before the beginning."""
    length: int = 0
    """Inputs taken so far, the prefix included."""

    @property
    def rotation(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines (D/H) of the present position."""
        return self.rotations[0][self.length], self.rotations[1][self.length]

    def append(self, layer: int, key_RHD: Tensor, value_RHD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of the present token; returns those of all tokens so far, (R, H, length + 1, D/H) each."""
        if self.length == 0:
            rows, heads, width = key_RHD.shape
            self.written.append(key_RHD.new_empty(2, rows, heads, FIRST_ROOM, width))
        # Room doubles when it is used up: making longer tensors at every step would cost more than all the rest.
        elif self.length == self.written[layer].shape[3]:
            self.written[layer] = torch.cat([self.written[layer], torch.empty_like(self.written[layer])], dim=3)
        self.written[layer][0, :, :, self.length] = key_RHD
        self.written[layer][1, :, :, self.length] = value_RHD
        key_RHLD, value_RHLD = self.written[layer][:, :, :, : self.length + 1]
        return key_RHLD, value_RHLD

    def select_rows(self, rows_R: Tensor) -> None:
        """Continue from these rows: indices into the present ones, which stay with their items, equally many of each."""
        self.written = [keys_values[:, rows_R] for keys_values in self.written]
        self.last_RP = self.last_RP[rows_R]

    def select_items(self, items_B: Tensor) -> None:
        """Drop all items but these (indices into the present ones), with their rows."""
        rows = len(self.last_RP) // len(self.source)
        self.keep(items_B, torch.arange(rows, device=items_B.device).expand(len(items_B), rows))

    def keep(self, items_B: Tensor, rows_BN: Tensor) -> None:
        """Drop all items but these (indices into the present ones), and all of their rows but these (numbers within the item)."""
        rows = len(self.last_RP) // len(self.source)
        self.select_rows((items_B[:, None] * rows + rows_BN).flatten())
        if len(items_B) == len(self.source) and bool((items_B == torch.arange(len(items_B), device=items_B.device)).all()):
            return
        self.source, self.first_BD = self.source.select(items_B), self.first_BD[items_B]
        self.bias_B11S, self.cross = self.bias_B11S[items_B], (self.cross[0][items_B], self.cross[1][items_B])
        self.copy_keys_BDM, self.uncopyable_B1M = self.copy_keys_BDM[items_B], self.uncopyable_B1M[items_B]
        self.before_PB1M = self.before_PB1M[:, items_B]
