"""Momentum: a slowly following twin of the encoder, and the queue of its vectors that serve as negatives."""

# Shape legend:  B pairs of a batch, Q pairs in the queue, D width

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def stable_key(identity: str) -> int:
    """Signed 64-bit hash of an InChIKey or a text, the same in every process: what queues compare instead of strings."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big", signed=True)


class MomentumTwin(nn.Module):
    """Exponential moving average of a module: teacher of the soft targets and source of the queue's vectors (MoCo, ALBEF).

    It starts equal to the module, learns nothing by gradient, and never drops out. Its state is a part of the checkpoint.
    """

    def __init__(self, module: nn.Module, momentum: float = 0.995) -> None:
        super().__init__()
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), not {momentum}")
        self.momentum = momentum
        self.twin = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step towards the module; call it after the optimiser's step. Buffers are copied."""
        for followed, current in zip(self.twin.parameters(), module.parameters(), strict=True):
            followed.lerp_(current.to(followed), 1.0 - self.momentum)
        for copied, buffer in zip(self.twin.buffers(), module.buffers(), strict=True):
            copied.copy_(buffer)

    def train(self, mode: bool = True) -> "MomentumTwin":
        """Stay in evaluation mode whatever the model around does: targets without dropout are less noisy."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Run the twin, without gradients."""
        return self.twin(*inputs, **options)


@dataclass(frozen=True)
class QueuedPairs:
    """Vectors of earlier pairs by the twin, L2-normalised, with the keys that tell which of them are no negatives."""

    text_QD: Tensor
    molecule_QD: Tensor
    text_keys_Q: Tensor
    molecule_keys_Q: Tensor


class PairQueue(nn.Module):
    """The latest pairs seen, first in, first out; its state is a part of the checkpoint, so that resuming repeats the run exactly."""

    def __init__(self, capacity: int, width: int) -> None:
        super().__init__()
        if capacity < 1:
            raise ValueError(f"a queue needs a capacity of at least 1, not {capacity}")
        self.capacity = capacity
        self.text_QD: Tensor
        self.molecule_QD: Tensor
        self.text_keys_Q: Tensor
        self.molecule_keys_Q: Tensor
        self.pushed: Tensor
        self.register_buffer("text_QD", torch.zeros(capacity, width))
        self.register_buffer("molecule_QD", torch.zeros(capacity, width))
        self.register_buffer("text_keys_Q", torch.zeros(capacity, dtype=torch.int64))
        self.register_buffer("molecule_keys_Q", torch.zeros(capacity, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, text_BD: Tensor, molecule_BD: Tensor, text_keys_B: Tensor, molecule_keys_B: Tensor) -> None:
        """Add the twin's vectors of a batch; the oldest pairs leave. Keys are int64 (`stable_key`)."""
        start, batch = int(self.pushed), text_BD.shape[0]
        kept = slice(max(0, batch - self.capacity), batch)
        rows = torch.arange(start + kept.start, start + batch, device=self.text_QD.device) % self.capacity
        self.text_QD[rows] = text_BD[kept].to(self.text_QD)
        self.molecule_QD[rows] = molecule_BD[kept].to(self.molecule_QD)
        self.text_keys_Q[rows] = text_keys_B[kept].to(self.text_keys_Q)
        self.molecule_keys_Q[rows] = molecule_keys_B[kept].to(self.molecule_keys_Q)
        self.pushed += batch

    def contents(self) -> QueuedPairs:
        """The pairs held so far: rows never filled are no negatives. The tensors are copies, which a later push leaves alone."""
        filled = min(int(self.pushed), self.capacity)
        return QueuedPairs(
            self.text_QD[:filled].clone(),
            self.molecule_QD[:filled].clone(),
            self.text_keys_Q[:filled].clone(),
            self.molecule_keys_Q[:filled].clone(),
        )
