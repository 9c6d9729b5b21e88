"""Training recipes as data: what is read, how large the model is, how long it learns."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from encoder.checkpoint import save_checkpoint
from encoder.features import MoleculeFeatures, TextFeatures
from encoder.model.atomas import AtomasEncoder
from encoder.model.config import EncoderConfig
from encoder.training.compute import PLAIN, Compute
from encoder.training.dataset import DatasetError, inchikey_of, read_descriptions, read_pairs, read_table
from encoder.training.loop import Schedule, Scores, Trainer, TrainingSet, Validation

BENCHMARK = Path(__file__).parents[2] / "data" / "chebi20"
"""The development benchmark that the project ships."""

STATE = "state.safetensors"
"""File of a run's folder from which it continues."""

TEXT_KINDS = ("description", "chebi_text", "chebi_class", "names", "iupac")


@dataclass(frozen=True, slots=True)
class FeatureSizes:
    """Sizes of the feature dictionaries that are learnt from the pairs."""

    word_ngrams: int = 35_000
    """Most word 1- to 3-grams."""
    character_ngrams: int = 17_000
    """Most character 3- to 5-grams."""
    min_texts: int = 3
    """Texts an n-gram must occur in."""
    buckets: int = 1024
    """Rows shared by words that were not learnt."""
    min_molecules: int = 8
    """Molecules a circular environment must occur in."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, apart from the data."""

    name: str
    """Name on the command line."""
    schedule: Schedule
    """Length and pace of the training."""
    kinds: tuple[str, ...] = TEXT_KINDS
    """Kinds of pairs to read."""
    sizes: FeatureSizes = field(default_factory=FeatureSizes)
    """Sizes of the feature dictionaries."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of EncoderConfig that differ from its defaults; table sizes come from the dictionaries."""

    start: str | None = None
    """Recipe whose finished run gives the first weights; layers that it lacks begin with closed gates."""
    table_bits: int = 8
    """Bits of a number of the stored tables, 8 or 4."""
    pool_limit: int | None = None
    """Validation texts and pool molecules at most; all by default."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def tiny() -> Recipe:
    """Seconds on one core, for tests: a few hundred pairs, one layer, a small table."""
    return Recipe(
        name="tiny",
        schedule=Schedule(epochs=3, batch=64, group=4, group_from_epoch=1),
        kinds=("sample",),
        pool_limit=150,
        sizes=FeatureSizes(word_ngrams=1_500, character_ngrams=1_500, min_texts=2, buckets=64, min_molecules=2),
        model={
            "layers": 1,
            "width": 32,
            "head_width": 64,
            "dimension": 32,
            "attention_width": 32,
            "attention_heads": 2,
            "feed_forward_width": 32,
        },
    )


def bag() -> Recipe:
    """The encoder without layers, an hour on one core."""
    return Recipe(name="bag", schedule=Schedule(epochs=10), model={"width": 640}, table_bits=4)


def transformer() -> Recipe:
    """One shared layer on top of the bag; an epoch takes a core a quarter of an hour."""
    schedule = Schedule(epochs=1, batch=512, group=32, group_from_epoch=0, learning_rate=5e-4)
    return Recipe(name="transformer", schedule=schedule, model={"width": 640, "layers": 1}, start="bag", table_bits=4)


def joint() -> Recipe:
    """The bag and the hierarchy learnt together instead of one after the other."""
    return Recipe(name="joint", schedule=Schedule(epochs=10, aligned=64), model={"width": 640, "hierarchy_width": 128}, table_bits=4)


RECIPES: dict[str, Callable[[], Recipe]] = {"tiny": tiny, "bag": bag, "transformer": transformer, "joint": joint}


def read_training_set(recipe: Recipe, data: Path, benchmark: Path = BENCHMARK) -> TrainingSet:
    """Read the recipe's pairs and the benchmark; DatasetError when a file is unusable or a benchmark molecule is among the pairs."""
    queries = read_descriptions(benchmark / "validation.tsv")
    evaluation_inchikeys = frozenset(inchikey_of(query.smiles) for query in queries)
    pairs = read_pairs(data, recipe.kinds, evaluation_inchikeys)
    pool = read_table(benchmark / "train_molecules.tsv.gz", ("smiles", "inchikey"))
    with_text = {pair.inchikey for pair in pairs} | evaluation_inchikeys
    distractors = [row["smiles"] for row in pool if row["inchikey"] not in with_text]
    texts, molecules = [query.text for query in queries], [query.smiles for query in queries] + [row["smiles"] for row in pool]
    if recipe.pool_limit is not None:
        distractors, texts, molecules = distractors[: recipe.pool_limit], texts[: recipe.pool_limit], molecules[: recipe.pool_limit]
    return TrainingSet(pairs, distractors, Validation(texts, molecules))


def train(
    recipe: Recipe,
    data: TrainingSet,
    out: Path,
    report: Callable[[str], None] = print,
    start: Path | None = None,
    compute: Compute = PLAIN,
) -> list[Scores]:
    """Train a recipe in the folder `out`, from where an earlier run of it ended, and write its checkpoint to `out/checkpoint`.

    `start` is the folder of the run that gives the first weights. Returns the scores of every epoch. DatasetError when a folder belongs to
    another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    described = json.dumps(recipe.to_json(), indent=1)
    note = out / "recipe.json"
    if note.exists() and note.read_text() != described:
        raise DatasetError(f"{out} holds a run of another recipe; name an empty folder with --out")
    note.write_text(described)
    torch.manual_seed(recipe.schedule.seed)
    sizes = recipe.sizes
    text_features = TextFeatures.learn(
        (pair.text for pair in data.pairs), sizes.word_ngrams, sizes.character_ngrams, sizes.min_texts, sizes.buckets
    )
    molecule_features = MoleculeFeatures.learn(sorted({pair.smiles for pair in data.pairs}), sizes.min_molecules)
    model = AtomasEncoder(EncoderConfig(text_features.rows, molecule_features.rows, **recipe.model))
    report(f"{len(data.pairs)} pairs, {text_features.rows} text features, {molecule_features.rows} molecule features")
    trainer = Trainer(model, text_features, molecule_features, data, recipe.schedule, report, compute)
    if start is not None:
        trainer.begin_with(start / STATE)
    history = trainer.run(out / STATE)
    version = save_checkpoint(out / "checkpoint", model.cpu(), text_features, molecule_features, recipe.table_bits)
    report(f"checkpoint {version} in {out / 'checkpoint'}")
    return history
