"""Trains the encoder by contrast between texts and molecules, resumable to the bit from the last epoch on disk."""

# Shape legend:  B pairs, N molecules of a batch (pairs first, then molecules without text), E dimension of the vectors, D width
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from encoder.features import MoleculeFeatures, TextFeatures
from encoder.model.atomas import AtomasEncoder
from encoder.model.config import MODALITIES, Modality
from encoder.model.losses import ContrastConfig, GlobalContrast
from encoder.model.momentum import MomentumTwin, PairQueue
from encoder.training.compute import PLAIN, Compute
from encoder.training.dataset import DatasetError, Pair, similar_batches, vary_text
from encoder.training.items import Bags, ItemBatch, Tokens
from encoder.training.joint import JointAlignment, level_losses
from encoder.training.metrics import rank_by_cosine, retrieval_scores
from encoder.training.resuming import adam, learning_rate, read_run, read_tensors, take_step, write_state
from encoder.training.sparse import TableAdam, weighted_sums

Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train."""

    epochs: int
    """Passes over the pairs."""
    batch: int = 1024
    """Pairs of a batch: each is the negative of all others."""
    group: int = 64
    """Alike pairs that stay together in a batch; 1 for random batches."""
    group_from_epoch: int = 1
    """First epoch (from 0) with grouped batches; before it vectors say nothing yet."""
    learning_rate: float = 2e-3
    """Peak learning rate; warm-up and cosine decay around it."""
    warm_up: float = 0.05
    """Share of the training in which the learning rate rises."""
    weight_decay: float = 0.01
    """Weight decay of the dense weights."""
    soft_targets: float = 0.4
    """Weight of the momentum twin's distribution in the targets."""
    momentum: float = 0.995
    """Share of itself that the twin keeps at each step."""
    queue: int = 0
    """Pairs of former batches, by the twin, that serve as further negatives."""
    seed: int = 0
    """Seed of weights, order, augmentation and dropout."""
    aligned: int = 0
    """Pairs of a batch whose tokens are aligned by the hierarchy as well, for a model that has one."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Texts and the pool they rank; the molecule of text i is entry i of the pool."""

    texts: list[str]
    pool: list[str]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What is learnt from: pairs, molecules without text that serve as negatives only, and what progress is measured on."""

    pairs: list[Pair]
    distractors: list[str]
    validation: Validation


class Trainer:
    """One training run; `run` continues from the run's folder when it holds a state."""

    def __init__(
        self,
        model: AtomasEncoder,
        text_features: TextFeatures,
        molecule_features: MoleculeFeatures,
        data: TrainingSet,
        schedule: Schedule,
        report: Callable[[str], None] = print,
        compute: Compute = PLAIN,
    ) -> None:
        self.model, self.schedule, self._report, self._compute = model.to(compute.device), schedule, report, compute
        self._text_features, self._pairs = text_features, data.pairs
        self._siblings = siblings_of(data.pairs)
        self._item_type = Tokens if model.config.layers else Bags
        self._texts = self._text_items([pair.text for pair in data.pairs])
        smiles, self._molecule_of_row = _distinct_molecules(data)
        features = molecule_features(smiles)
        self._molecules = self._item_type(features, molecule_features.rows)
        extra = -1 - np.arange(len(data.distractors))
        self._molecule_keys = np.concatenate([numbered([pair.inchikey for pair in data.pairs]), extra])
        self._text_keys = np.concatenate([numbered([pair.text for pair in data.pairs]), extra])
        self._joint = None
        if schedule.aligned:
            tokens = Tokens(features, molecule_features.rows)
            self._joint = JointAlignment(data.pairs, tokens, self._molecule_of_row, schedule.aligned)
        self._validation = (
            self._text_items(data.validation.texts),
            self._item_type(molecule_features(data.validation.pool), molecule_features.rows),
        )
        self.epoch = 0
        self.history: list[Scores] = []
        # Where each row was seen last; batches of alike rows are drawn from it.
        self._vectors = torch.zeros(len(data.pairs) + len(data.distractors), model.config.dimension, device=compute.device)
        self._tables: dict[Modality, TableAdam] = {modality: TableAdam(model.tower(modality).table.data) for modality in MODALITIES}
        dense = [parameter for name, parameter in model.named_parameters() if not name.endswith(".table")]
        self._twin = MomentumTwin(model, schedule.momentum)
        self._queue = PairQueue(schedule.queue, model.config.dimension).to(compute.device) if schedule.queue else None
        self._contrast = GlobalContrast(ContrastConfig(soft_target_weight=schedule.soft_targets))
        self._dense = adam([(dense, schedule.weight_decay)])

    @property
    def _teacher(self) -> AtomasEncoder:
        twin = self._twin.twin
        assert isinstance(twin, AtomasEncoder)
        return twin

    def run(self, state: Path | None = None) -> list[Scores]:
        """Train to the end of the schedule, writing `state` after each epoch and continuing from it; return the scores of every epoch."""
        if state is not None and state.exists():
            self.load(state)
            self._report(f"continues after epoch {self.epoch}")
        while self.epoch < self.schedule.epochs:
            started = time.monotonic()
            loss = self._run_epoch()
            self.epoch += 1
            scores = {"epoch": float(self.epoch), "loss": loss, **self.validate()}
            self.history.append(scores)
            if state is not None:
                self.save(state)
            shown = " ".join(f"{name} {value:.4g}" for name, value in scores.items())
            self._report(f"{shown} seconds {time.monotonic() - started:.0f}")
        return self.history

    def begin_with(self, state: Path) -> None:
        """Take over the weights of a finished run on the same data, without layers or with as many; DatasetError when they do not fit."""
        if not state.exists():
            raise DatasetError(f"{state} does not exist; train the recipe that this one starts from, or name its run with --start")
        with safe_open(state, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        try:
            missing, unexpected = self.model.load_state_dict(weights, strict=False)
            self._teacher.load_state_dict(self.model.state_dict())
            self._vectors.copy_(tensors["vectors"])
        except (RuntimeError, KeyError) as error:
            raise DatasetError(f"{state} does not fit this recipe and data: {error}") from error
        if unexpected or any(not name.startswith("backbone.") and not name.endswith("importance.weight") for name in missing):
            raise DatasetError(f"{state} does not fit this recipe: {', '.join([*unexpected, *missing])} differ")

    def save(self, state: Path) -> None:
        """Write everything the next epoch depends on."""
        steps = {modality: table.steps for modality, table in self._tables.items()}
        write_state(state, self._tensors(), {"epoch": self.epoch, "history": self.history, "table_steps": steps})

    def load(self, state: Path) -> None:
        """Read what `save` wrote; DatasetError when the file belongs to another recipe or other data."""
        run = read_run(state)
        read_tensors(state, self._tensors())
        self.epoch, self.history = run["epoch"], run["history"]
        for modality, steps in run["table_steps"].items():
            self._tables[modality].steps = steps

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"twin.{name}": tensor for name, tensor in self._teacher.state_dict().items()}
        if self._queue is not None:
            tensors |= {f"queue.{name}": tensor for name, tensor in self._queue.state_dict().items()}
        for modality, table in self._tables.items():
            tensors |= {f"table.{modality}.mean": table.mean_ND, f"table.{modality}.square": table.square_ND}
        for index, moments in enumerate(self._dense.state.values()):
            tensors |= {f"dense.{index}.{name}": moment for name, moment in moments.items()}
        return {**tensors, "vectors": self._vectors}

    def _text_items(self, texts: list[str]) -> Bags | Tokens:
        return self._item_type(self._text_features(texts), self._text_features.rows)

    def _run_epoch(self) -> float:
        schedule, model = self.schedule, self.model
        generator = np.random.default_rng([schedule.seed, self.epoch])
        torch.manual_seed(schedule.seed * 1_000_003 + self.epoch)
        shown = [vary_text(pair, siblings, generator) for pair, siblings in zip(self._pairs, self._siblings, strict=True)]
        features = self._text_features(shown)
        texts = self._item_type(features, self._text_features.rows)
        tokens = Tokens(features, self._text_features.rows) if self._joint else None
        group = schedule.group if self.epoch >= schedule.group_from_epoch else 1
        # A batch of one pair, or of molecules without text alone, has nothing to tell apart.
        batches = [
            batch for batch in similar_batches(self._vectors.cpu().numpy(), schedule.batch, group, generator) if self._paired(batch) > 1
        ]
        model.train()
        total = 0.0
        for step, rows in enumerate(batches):
            rows = np.sort(rows)
            count = self._paired(rows)
            batch: dict[Modality, ItemBatch] = {
                "text": texts.select(rows[:count], model.config.feature_dropout, generator),
                "molecule": self._molecules.select(self._molecule_of_row[rows], model.config.feature_dropout, generator),
            }
            chosen = None
            if self._joint is not None and tokens is not None:
                chosen = self._joint.choose(tokens, rows[:count], model.config.feature_dropout, generator)
            matrices = {m: chosen.beside(batch[m], m) if chosen else batch[m].matrix for m in MODALITIES}
            sums = {modality: self._tables[modality].look_up(matrices[modality]) for modality in MODALITIES}
            bags = {modality: sums[modality][: batch[modality].matrix.shape[0]] for modality in MODALITIES}
            with self._compute.autocast():
                text_BE, molecule_NE = (_vectors(model, modality, bags[modality], batch[modality]) for modality in MODALITIES)
                twin_text_BE, twin_molecule_NE = (_vectors_of(self._teacher, modality, batch[modality]) for modality in MODALITIES)
            text_keys_N, molecule_keys_N = (
                torch.from_numpy(keys[rows]).to(self._compute.device) for keys in (self._text_keys, self._molecule_keys)
            )
            queue = None if self._queue is None else self._queue.contents()
            loss = self._contrast(
                text_BE, molecule_NE, twin_text_BE, twin_molecule_NE, text_keys_N, molecule_keys_N, model.log_scale, queue
            )
            if chosen:
                keys = (self._text_keys[chosen.rows], self._molecule_keys[chosen.rows])
                with self._compute.autocast():
                    token_sums = {modality: sums[modality][len(bags[modality]) :] for modality in MODALITIES}
                    loss = loss + level_losses(
                        model, token_sums, chosen, *(torch.from_numpy(part).to(self._compute.device) for part in keys)
                    )
            if self._queue is not None:
                self._queue.push(twin_text_BE, twin_molecule_NE[:count], text_keys_N[:count], molecule_keys_N[:count])
            self._dense.zero_grad()
            loss.backward()
            rate = learning_rate(schedule, (self.epoch + step / len(batches)) / schedule.epochs)
            take_step(self._dense, rate)
            for table in self._tables.values():
                table.step(rate)
            self._twin.update(model)
            with torch.no_grad():
                molecule_NE[:count] = (molecule_NE[:count] + text_BE) / 2
                self._vectors[torch.from_numpy(rows).to(self._compute.device)] = molecule_NE
            total += loss.item()
        return total / max(len(batches), 1)

    def _paired(self, rows: NDArray[np.int64]) -> int:
        return int((rows < len(self._pairs)).sum())

    @torch.no_grad()
    def validate(self) -> Scores:
        """Score text to molecule retrieval over the whole pool."""
        self.model.eval()
        texts, pool = (self._all_vectors(modality, items) for modality, items in zip(MODALITIES, self._validation, strict=True))
        return retrieval_scores(rank_by_cosine(texts, pool, np.arange(len(texts)))).to_json()

    def _all_vectors(self, modality: Modality, items: Bags | Tokens) -> NDArray[np.float32]:
        chunks = np.array_split(np.arange(len(items)), math.ceil(len(items) / 2048))
        return np.concatenate([_vectors_of(self.model, modality, items.select(rows)).cpu().numpy() for rows in chunks])


@torch.no_grad()
def _vectors_of(model: AtomasEncoder, modality: Modality, batch: ItemBatch) -> Tensor:
    return _vectors(model, modality, weighted_sums(model.tower(modality).table, batch.matrix), batch)


def _vectors(model: AtomasEncoder, modality: Modality, sums_RD: Tensor, batch: ItemBatch) -> Tensor:
    """Vectors (B, E) of items whose bags or tokens have been looked up."""
    if batch.token_counts is None or batch.mass is None:
        return model.tower(modality).project(sums_RD).float()
    mass_T, counts_B = torch.from_numpy(batch.mass).to(sums_RD.device), torch.from_numpy(batch.token_counts).to(sums_RD.device)
    return model.encode_ragged(modality, sums_RD, mass_T, counts_B).float()


def siblings_of(pairs: list[Pair]) -> list[list[str]]:
    """For each pair, the other texts of its molecule."""
    texts: dict[str, list[str]] = {}
    for pair in pairs:
        texts.setdefault(pair.inchikey, []).append(pair.text)
    return [[text for text in texts[pair.inchikey] if text != pair.text] for pair in pairs]


def _distinct_molecules(data: TrainingSet) -> tuple[list[str], NDArray[np.int64]]:
    """The molecules to featurise, and which of them each row (pairs, then distractors) shows."""
    smiles = sorted({pair.smiles for pair in data.pairs})
    place = {text: row for row, text in enumerate(smiles)}
    rows = [place[pair.smiles] for pair in data.pairs] + [len(smiles) + index for index in range(len(data.distractors))]
    return smiles + data.distractors, np.array(rows, dtype=np.int64)


def numbered(values: list[str]) -> NDArray[np.int64]:
    """A number for each value, the same for equal ones."""
    return np.unique(np.array(values), return_inverse=True)[1].astype(np.int64)
