"""Trains the hierarchy on a finished encoder: its tokens stand still, and words learn which atoms they point at."""

# Shape legend:  B pairs, L tokens, D width, Q queries, C candidates of a query

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.checkpoint import Checkpoint, add_hierarchy, load_checkpoint
from encoder.inference import Encoder
from encoder.model.alignment import AlignmentLoss, Level
from encoder.model.atomas import AtomasEncoder, EncodedItems
from encoder.model.config import EncoderConfig, Modality
from encoder.model.losses import same_item
from encoder.training.compute import PLAIN, Compute
from encoder.training.dataset import DatasetError, similar_batches, vary_text
from encoder.training.items import ItemBatch, Tokens
from encoder.training.joint import padded
from encoder.training.loop import Scores, TrainingSet, numbered, siblings_of
from encoder.training.metrics import retrieval_scores, tie_aware_ranks
from encoder.training.resuming import adam, learning_rate, read_run, read_tensors, take_step, write_state
from encoder.training.sparse import weighted_sums

STATE = "state.safetensors"


@dataclass(frozen=True, slots=True)
class HierarchySchedule:
    """How long and how fast the hierarchy learns."""

    kinds: tuple[str, ...] = ("description", "chebi_text", "chebi_class")
    """Kinds of pairs to read: those whose words are about parts of molecules."""
    epochs: int = 3
    """Passes over the pairs."""
    batch: int = 64
    """Pairs of a batch: each is the negative of all others."""
    group: int = 32
    """Alike pairs that stay together in a batch."""
    learning_rate: float = 1e-3
    """Peak learning rate; warm-up and cosine decay around it."""
    warm_up: float = 0.05
    """Share of the training in which the learning rate rises."""
    weight_decay: float = 0.01
    """Weight decay of all weights."""
    width: int = 128
    """Width of the tokens that are aligned."""
    longest_text: int = 256
    """Tokens of a text at most; longer ones (one in a thousand) are left out."""
    longest_molecule: int = 256
    """Tokens of a molecule at most; longer ones are left out."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    judged_queries: int = 300
    """Validation texts whose first candidates are re-ranked after each epoch."""
    judged_candidates: int = 50
    """Candidates of each."""


class HierarchyTrainer:
    """One training run of a hierarchy; `run` continues from the run's folder when it holds a state."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        data: TrainingSet,
        schedule: HierarchySchedule,
        report: Callable[[str], None] = print,
        compute: Compute = PLAIN,
    ) -> None:
        self._compute = compute
        self.schedule, self._report, self._checkpoint, self._data = schedule, report, checkpoint, data
        torch.manual_seed(schedule.seed)
        config = replace(checkpoint.model.config, hierarchy_width=schedule.width)
        self.model = _with_hierarchy(checkpoint.model, config).to(compute.device)
        assert self.model.hierarchy is not None
        self._hierarchy = self.model.hierarchy
        molecules = sorted({pair.smiles for pair in data.pairs})
        place = {smiles: row for row, smiles in enumerate(molecules)}
        self._molecules = Tokens(checkpoint.molecule_features(molecules), checkpoint.molecule_features.rows)
        self._molecule_of_pair = np.array([place[pair.smiles] for pair in data.pairs], dtype=np.int64)
        self._siblings = siblings_of(data.pairs)
        self._text_keys = numbered([pair.text for pair in data.pairs])
        self._molecule_keys = numbered([pair.inchikey for pair in data.pairs])
        encoder = Encoder(checkpoint)
        molecule_vectors = encoder.encode_molecules(molecules)[self._molecule_of_pair]
        self._vectors = ((molecule_vectors + encoder.encode_texts([pair.text for pair in data.pairs])) / 2).astype(np.float32)
        self._judged = _Judged.of(encoder, checkpoint, data, schedule)
        self._optimiser = adam([(self._hierarchy.parameters(), schedule.weight_decay)])
        self.epoch = 0
        self.history: list[Scores] = []

    def run(self, state: Path) -> list[Scores]:
        """Train to the end of the schedule, writing `state` after each epoch; return the scores of every epoch."""
        if state.exists():
            self._load(state)
            self._report(f"continues after epoch {self.epoch}")
        while self.epoch < self.schedule.epochs:
            started = time.monotonic()
            losses = self._run_epoch()
            self.epoch += 1
            scores = {"epoch": float(self.epoch), **{f"loss_{level}": loss for level, loss in enumerate(losses)}, **self.judge()}
            self.history.append(scores)
            self._save(state)
            shown = " ".join(f"{name} {value:.4g}" for name, value in scores.items())
            self._report(f"{shown} seconds {time.monotonic() - started:.0f}")
        return self.history

    def _run_epoch(self) -> list[float]:
        schedule = self.schedule
        generator = np.random.default_rng([schedule.seed, self.epoch])
        torch.manual_seed(schedule.seed * 1_000_003 + self.epoch)
        shown = [vary_text(pair, siblings, generator) for pair, siblings in zip(self._data.pairs, self._siblings, strict=True)]
        features = self._checkpoint.text_features
        texts = Tokens(features(shown), features.rows)
        fits = (texts.lengths <= schedule.longest_text) & (self._molecules.lengths[self._molecule_of_pair] <= schedule.longest_molecule)
        batches = [rows[fits[rows]] for rows in similar_batches(self._vectors, schedule.batch, schedule.group, generator)]
        batches = [rows for rows in batches if len(rows) > 1]
        totals = [0.0] * len(self._hierarchy.alignment.log_scale)
        for step, rows in enumerate(batches):
            loss = self._loss(texts.select(rows), self._molecules.select(self._molecule_of_pair[rows]), rows)
            self._optimiser.zero_grad()
            loss.total.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            rate = learning_rate(schedule, (self.epoch + step / len(batches)) / schedule.epochs)
            take_step(self._optimiser, rate)
            totals = [total + level.item() for total, level in zip(totals, loss.per_level, strict=True)]
            if (step + 1) % 100 == 0:
                self._report(f"epoch {self.epoch + 1} step {step + 1}/{len(batches)} {' '.join(f'{t / (step + 1):.4g}' for t in totals)}")
        return [total / max(len(batches), 1) for total in totals]

    def _loss(self, texts: ItemBatch, molecules: ItemBatch, rows: NDArray[np.int64]) -> AlignmentLoss:
        text_keys, molecule_keys = (
            torch.from_numpy(keys[rows]).to(self._compute.device) for keys in (self._text_keys, self._molecule_keys)
        )
        same_BB = same_item(text_keys, molecule_keys, text_keys, molecule_keys)
        with self._compute.autocast():
            text_levels, molecule_levels = self._levels("text", texts), self._levels("molecule", molecules)
        return self._hierarchy.alignment.loss(text_levels, molecule_levels, same_BB)

    def _levels(self, modality: Modality, items: ItemBatch) -> tuple[Level, ...]:
        return self.model.levels(modality, tokens_of(self.model, modality, items))

    @torch.no_grad()
    def judge(self) -> Scores:
        """Re-rank the judged texts' candidates: by the vector alone, by the hierarchy alone, by their sum."""
        judged = self._judged
        scores = np.zeros(judged.cosines.shape, dtype=np.float32)
        for query, rows in enumerate(judged.candidates):
            text, molecules = (
                self._levels("text", judged.texts.select(np.array([query]))),
                self._levels("molecule", judged.pool.select(rows)),
            )
            scores[query] = torch.stack(self._hierarchy.alignment.similarities(text, molecules)).mean(0)[0].cpu().numpy()
        ways = {"vector": judged.cosines, "hierarchy": scores, "both": judged.cosines + scores}
        return {f"{name}_mrr": retrieval_scores(tie_aware_ranks(way, judged.targets)).mrr for name, way in ways.items()}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"hierarchy.{name}": tensor for name, tensor in self._hierarchy.state_dict().items()}
        for index, moments in enumerate(self._optimiser.state.values()):
            tensors |= {f"optimiser.{index}.{name}": moment for name, moment in moments.items()}
        return tensors

    def _save(self, state: Path) -> None:
        write_state(state, self._tensors(), {"epoch": self.epoch, "history": self.history, "encoder": self._checkpoint.version})

    def _load(self, state: Path) -> None:
        run = read_run(state)
        if run["encoder"] != self._checkpoint.version:
            raise DatasetError(f"{state} belongs to a hierarchy of encoder {run['encoder']}; name an empty folder with --out")
        read_tensors(state, self._tensors())
        self.epoch, self.history = run["epoch"], run["history"]


@dataclass(frozen=True, slots=True)
class _Judged:
    """Validation texts with their first candidates by the vector, the right molecule among them."""

    texts: Tokens
    pool: Tokens
    candidates: NDArray[np.int64]
    """Rows of `pool` (Q, C)."""
    cosines: NDArray[np.float32]
    """Cosine of each candidate's vector with the text's (Q, C)."""
    targets: NDArray[np.int64]
    """Which candidate is right (Q,)."""

    @classmethod
    def of(cls, encoder: Encoder, checkpoint: Checkpoint, data: TrainingSet, schedule: HierarchySchedule) -> "_Judged":
        texts, pool = data.validation.texts, data.validation.pool
        cosines_QN = encoder.encode_texts(texts[: schedule.judged_queries]) @ encoder.encode_molecules(pool).T
        kept = min(schedule.judged_candidates, len(pool))
        candidates_QC = np.argpartition(-cosines_QN, kept - 1, axis=1)[:, :kept]
        own_Q1 = np.arange(len(cosines_QN))[:, None]
        found_Q = np.flatnonzero((candidates_QC == own_Q1).any(1))  # re-ranking cannot find what the vector lost
        candidates_QC = candidates_QC[found_Q]
        used, rows = np.unique(candidates_QC, return_inverse=True)
        return cls(
            Tokens(checkpoint.text_features([texts[query] for query in found_Q]), checkpoint.text_features.rows),
            Tokens(checkpoint.molecule_features([pool[row] for row in used]), checkpoint.molecule_features.rows),
            rows.reshape(candidates_QC.shape).astype(np.int64),
            np.take_along_axis(cosines_QN[found_Q], candidates_QC, axis=1),
            (candidates_QC == found_Q[:, None]).argmax(1),
        )


@torch.no_grad()
def tokens_of(model: AtomasEncoder, modality: Modality, items: ItemBatch) -> EncodedItems:
    """Encode the tokens of some items of the training set, without any gradient."""
    return padded(model, modality, weighted_sums(model.tower(modality).table, items.matrix), items)


def _with_hierarchy(model: AtomasEncoder, config: EncoderConfig) -> AtomasEncoder:
    """The same encoder with a fresh hierarchy; only the hierarchy learns."""
    extended = AtomasEncoder(config)
    extended.load_state_dict(model.state_dict(), strict=False)
    extended.requires_grad_(False)
    assert extended.hierarchy is not None
    extended.hierarchy.requires_grad_(True)
    return extended


def train_hierarchy(
    start: Path,
    data: TrainingSet,
    schedule: HierarchySchedule,
    out: Path,
    report: Callable[[str], None] = print,
    compute: Compute = PLAIN,
) -> list[Scores]:
    """Train a hierarchy on the checkpoint in the folder `start`, and write both to `out/checkpoint`; return the scores of every epoch."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(start)
    trainer = HierarchyTrainer(checkpoint, data, schedule, report, compute)
    report(f"{len(data.pairs)} pairs, hierarchy of width {schedule.width} on encoder {checkpoint.version}")
    history = trainer.run(out / STATE)
    version = add_hierarchy(start, out / "checkpoint", trainer.model.cpu())
    report(f"checkpoint {version} in {out / 'checkpoint'}")
    return history
