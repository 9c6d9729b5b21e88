"""Trains the decoder in both directions on top of a frozen encoder, resumable to the bit from its last state on disk."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.context import BRIEF, DETAILED
from encoder.model.decoder import Decoder, Task, pad_targets
from encoder.model.source import Source
from encoder.prose import Manner
from encoder.training.captions import Example
from encoder.training.compute import PLAIN, Compute
from encoder.training.readings import Readings
from encoder.training.resuming import adam, learning_rate, read_run, read_tensors, take_step, write_state

_HIDABLE = DETAILED + BRIEF + 2


@dataclass(frozen=True, slots=True)
class DecoderSchedule:
    """How long and how fast the decoder learns."""

    epochs: int
    """Epochs; each shows its share of every kind of example."""
    describe: dict[str, float] = field(
        default_factory=lambda: {"PROSE": 1.0, "CLASSES": 0.3, "NAME": 0.1, "SYSTEMATIC_NAME": 0.0, "OTHER": 0.1}
    )
    """Share of the examples of each manner that an epoch describes."""
    generate: dict[str, float] = field(default_factory=lambda: {"PROSE": 1.0, "NAME": 0.2, "SYSTEMATIC_NAME": 0.1, "OTHER": 0.2})
    """Share of the texts of each manner for which an epoch writes molecules."""
    batch_tokens: int = 1200
    """Target tokens of a batch, padding included."""
    batch_rows: int = 48
    """Examples of a batch at most."""
    longest: int = 200
    """Examples with more target tokens are left out."""
    without_neighbours: float = 0.25
    """Share of the batches that show no neighbours, so that the decoder also works without."""
    learning_rate: float = 1e-3
    """Peak learning rate; warm-up and cosine decay around it."""
    warm_up: float = 0.05
    """Share of the training in which the learning rate rises."""
    weight_decay: float = 0.05
    """Weight decay of the matrices."""
    seed: int = 0
    """Seed of order, neighbours shown and dropout."""
    save_every: int = 50
    """Batches between states on disk."""


@dataclass(frozen=True, slots=True)
class _Batch:
    task: Task
    rows: NDArray[np.int64]
    """Into the examples (describe) or the queries (generate)."""


class DecoderTrainer:
    """One training run; `run` continues from the run's state when there is one."""

    def __init__(
        self,
        decoder: Decoder,
        readings: Readings,
        examples: list[Example],
        encode: Callable[[list[str]], list[list[int]]],
        schedule: DecoderSchedule,
        report: Callable[[str], None] = print,
        compute: Compute = PLAIN,
    ) -> None:
        self.decoder, self._readings, self._examples, self._schedule, self._report = decoder, readings, examples, schedule, report
        self._compute = compute
        decoder.to(compute.device)
        self._targets = {
            Task.DESCRIBE: encode([example.text for example in examples]),
            Task.GENERATE: [readings.smiles_ids(query.molecule) for query in readings.queries],
        }
        matrices = [parameter for parameter in decoder.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in decoder.parameters() if parameter.ndim <= 1]
        self._optimiser = adam([(matrices, schedule.weight_decay), (others, 0.0)], betas=(0.9, 0.98))
        self.epoch = self.batch = 0
        self._sums: dict[str, list[float]] = {}
        self.history: list[dict[str, float]] = []

    def run(self, state: Path, after_epoch: Callable[[int], dict[str, float]] | None = None) -> list[dict[str, float]]:
        """Train to the end of the schedule, writing `state` now and then and continuing from it; return the losses of every epoch."""
        if state.exists():
            self._load(state)
            self._report(f"continues in epoch {self.epoch + 1} after batch {self.batch}")
        while self.epoch < self._schedule.epochs:
            started = time.monotonic()
            for batch in self._rest_of_epoch():
                self._learn(*batch)
                self.batch += 1
                if self.batch % self._schedule.save_every == 0:
                    self._save(state)
                    self._report(f"epoch {self.epoch + 1} batch {self.batch}: {self._shown()} seconds {time.monotonic() - started:.0f}")
            self.epoch, self.batch = self.epoch + 1, 0
            losses = {name: total / max(count, 1) for name, (total, count) in self._sums.items()}
            self.history.append({"epoch": float(self.epoch), **losses, **(after_epoch(self.epoch) if after_epoch else {})})
            self._sums = {}
            self._save(state)
            shown = " ".join(f"{name} {value:.4g}" for name, value in self.history[-1].items())
            self._report(f"{shown} seconds {time.monotonic() - started:.0f}")
        return self.history

    def _shown(self) -> str:
        return " ".join(f"{name} {total / max(count, 1):.4g}" for name, (total, count) in self._sums.items())

    def _rest_of_epoch(self) -> Iterator[tuple[_Batch, float]]:
        batches = self._plan(np.random.default_rng([self._schedule.seed, self.epoch]))
        for index in range(self.batch, len(batches)):
            yield batches[index], (self.epoch + index / len(batches)) / self._schedule.epochs

    def _plan(self, generator: np.random.Generator) -> list[_Batch]:
        """The batches of an epoch: examples of like length together, in random order."""
        batches = []
        for task, items, shares in (
            (Task.DESCRIBE, self._examples, self._schedule.describe),
            (Task.GENERATE, self._readings.queries, self._schedule.generate),
        ):
            lengths = np.array([len(ids) + 1 for ids in self._targets[task]])
            chosen = []
            for manner in Manner:
                fitting = [row for row, item in enumerate(items) if item.manner == manner and lengths[row] <= self._schedule.longest]
                count = round(shares.get(manner.name, 0.0) * len(fitting))
                chosen.append(generator.permutation(np.array(fitting, dtype=np.int64))[:count])
            rows = np.concatenate(chosen)
            rows = rows[np.argsort(lengths[rows] + generator.random(len(rows)), kind="stable")]
            batches += [_Batch(task, part) for part in _cut(rows, lengths, self._schedule)]
        return [batches[index] for index in generator.permutation(len(batches))]

    def _learn(self, batch: _Batch, progress: float) -> None:
        schedule = self._schedule
        generator = np.random.default_rng([schedule.seed, self.epoch, self.batch])
        torch.manual_seed(int(generator.integers(2**62)))
        self.decoder.train()
        source = self._read(batch, bool(generator.random() >= schedule.without_neighbours), generator.random((len(batch.rows), _HIDABLE)))
        targets_BL, mask_BL = pad_targets([self._targets[batch.task][row] for row in batch.rows])
        targets_BL, mask_BL = targets_BL.to(self._compute.device), mask_BL.to(self._compute.device)
        with self._compute.autocast():
            log_probability_BL = self.decoder(targets_BL, batch.task, source.to(self._compute.device))
        loss = -(log_probability_BL.float() * mask_BL).sum() / mask_BL.sum()
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        take_step(self._optimiser, learning_rate(schedule, progress, first=0.02, last=0.02))
        name = batch.task.name.lower() + ("" if source.copied_BM.shape[1] else "_alone")
        total, count = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = [total + loss.item() * int(mask_BL.sum()), count + int(mask_BL.sum())]

    def _read(self, batch: _Batch, neighbours: bool, hidden: NDArray[np.float64]) -> Source:
        if batch.task == Task.DESCRIBE:
            return self._readings.of_molecules([self._examples[row] for row in batch.rows], neighbours, hidden)
        return self._readings.of_queries(batch.rows.tolist(), neighbours, hidden)

    def _save(self, state: Path) -> None:
        run = {"epoch": self.epoch, "batch": self.batch, "sums": self._sums, "history": self.history}
        write_state(state, self._tensors(), run)

    def _load(self, state: Path) -> None:
        run = read_run(state)
        read_tensors(state, self._tensors())
        self.epoch, self.batch, self._sums, self.history = run["epoch"], run["batch"], run["sums"], run["history"]

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {f"decoder.{name}": tensor for name, tensor in self.decoder.state_dict().items()}
        for name, parameter in self.decoder.named_parameters():
            tensors |= {f"adam.{name}.{part}": moment for part, moment in self._optimiser.state[parameter].items()}
        return tensors


def _cut(rows: NDArray[np.int64], lengths: NDArray[np.int64], schedule: DecoderSchedule) -> Iterator[NDArray[np.int64]]:
    """Batches of rows in the given order, none larger than the schedule allows, each with one row at least."""
    start = 0
    for place in range(1, len(rows) + 1):
        full = place - start == schedule.batch_rows or place == len(rows)
        if full or (place + 1 - start) * lengths[rows[start : place + 1]].max() > schedule.batch_tokens:
            yield rows[start:place]
            start = place
