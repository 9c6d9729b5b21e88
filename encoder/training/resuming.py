"""What all training runs have in common: their pace, Adam, and the state on disk from which they go on to the bit."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Parameter

from encoder.training.dataset import DatasetError


class Pace(Protocol):
    """What the learning rate depends on."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def warm_up(self) -> float: ...


def learning_rate(schedule: Pace, progress: float, first: float = 0.05, last: float = 0.01) -> float:
    """Linear warm-up from the share `first` of the peak, then cosine decay to the share `last`; `progress` runs from 0 to 1 over the training."""
    if progress < schedule.warm_up:
        return schedule.learning_rate * (first + (1 - first) * progress / schedule.warm_up)
    decayed = (progress - schedule.warm_up) / (1 - schedule.warm_up)
    return schedule.learning_rate * (last + (1 - last) * 0.5 * (1 + math.cos(math.pi * decayed)))


def adam(weight_decays: Iterable[tuple[Iterable[Parameter], float]], betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """Adam over parameters with their weight decay. Its moments exist before the first step, so that a state can be read into them."""
    optimiser = torch.optim.AdamW([{"params": list(group), "weight_decay": decay} for group, decay in weight_decays], betas=betas)
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            optimiser.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return optimiser


def take_step(optimiser: torch.optim.AdamW, rate: float) -> None:
    """One step at this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()


def write_state(state: Path, tensors: Mapping[str, Tensor], run: Mapping[str, Any]) -> None:
    """Write everything that the rest of a run depends on; the file is replaced in one step."""
    fresh = state.with_suffix(".partial")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, fresh, metadata={"run": json.dumps(run)})
    fresh.replace(state)


def read_run(state: Path) -> dict[str, Any]:
    """What `write_state` was told of the run."""
    with safe_open(state, "pt") as file:
        run: dict[str, Any] = json.loads(file.metadata()["run"])
    return run


def read_tensors(state: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read what `write_state` wrote into these tensors; DatasetError when the file belongs to another recipe or other data."""
    with safe_open(state, "pt") as file:
        for name, tensor in tensors.items():
            if name not in file.keys() or list(file.get_slice(name).get_shape()) != list(tensor.shape):  # noqa: SIM118  # no mapping
                raise DatasetError(f"{state} belongs to another recipe or other data ({name} differs); name an empty folder with --out")
            tensor.detach().copy_(file.get_tensor(name))
