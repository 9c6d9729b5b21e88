"""Where a training computes and in which precision: processor or GPU, 32-bit floats or bfloat16 for the layers."""

from dataclasses import dataclass, field

import torch

from encoder.training.dataset import DatasetError

DEVICES = ("cpu", "cuda")
"""What a training can run on."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Device and precision. Weights, moments, pooled vectors and losses stay in 32-bit floats whatever the precision of the layers."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bf16: bool = False
    """Whether matrix products of the layers are computed in bfloat16."""

    @classmethod
    def of(cls, device: str, bf16: bool | None = None) -> "Compute":
        """The named device; in bfloat16 on a GPU and in 32-bit floats on a processor unless told otherwise. DatasetError without a GPU."""
        if device == "cuda" and not torch.cuda.is_available():
            raise DatasetError("torch finds no GPU that it can use; train with --device cpu")
        return cls(torch.device(device), device == "cuda" if bf16 is None else bf16)

    def autocast(self) -> torch.autocast:
        """The context in which layers compute."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


PLAIN = Compute()
"""Processor and 32-bit floats: what the shipped weights were trained with."""
