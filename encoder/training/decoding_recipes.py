"""Trains a decoder on top of an encoder's checkpoint: from the pairs to one checkpoint that holds both."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.decoder_checkpoint import Vocabularies, add_decoder, load_decoder
from encoder.model.decoder import Decoder, DecoderConfig, Task
from encoder.prose import Manner
from encoder.tokenizer import SmilesVocabulary
from encoder.training.captions import Corpus, gather, smiles_tokens, vocabulary_texts
from encoder.training.compute import PLAIN, Compute
from encoder.training.dataset import DatasetError, inchikey_of, read_descriptions, read_pairs
from encoder.training.decoding import DecoderSchedule, DecoderTrainer
from encoder.training.readings import Readings
from encoder.training.recipes import BENCHMARK, STATE, TEXT_KINDS
from encoder.vocabulary import TextVocabulary


@dataclass(frozen=True, slots=True)
class DecoderRecipe:
    """Everything that decides the decoder's weights, apart from the data and the encoder."""

    schedules: tuple[DecoderSchedule, ...]
    """Stages, one after the other, each with a learning rate of its own that rises and falls."""
    kinds: tuple[str, ...] = TEXT_KINDS
    """Kinds of pairs to read."""
    text_vocabulary: int = 6000
    """Most pieces of words."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of DecoderConfig that differ from its defaults; vocabularies and the encoder's sizes are given."""
    dropout: tuple[float, ...] = (0.0,)
    """Share of activations dropped in each stage."""
    continues: bool = False
    """Whether to go on from the checkpoint's own decoder, its vocabularies and shape included, instead of a new one."""

    def manners(self, task: Task) -> set[Manner]:
        """The manners of the examples that any stage shows."""
        shares = [schedule.describe if task == Task.DESCRIBE else schedule.generate for schedule in self.schedules]
        return {Manner[name] for share in shares for name, value in share.items() if value}


def shipped() -> DecoderRecipe:
    """The shipped decoder: about 50 minutes on one core."""
    first = DecoderSchedule(
        epochs=4,
        describe={"PROSE": 1.0, "CLASSES": 0.15},
        generate={"PROSE": 0.6, "NAME": 0.08, "SYSTEMATIC_NAME": 0.04},
        learning_rate=1.5e-3,
        without_neighbours=0.2,
    )
    second = DecoderSchedule(
        epochs=3,
        describe={"PROSE": 1.0, "CLASSES": 0.08},
        generate={"PROSE": 0.25, "NAME": 0.03},
        learning_rate=1e-3,
        without_neighbours=0.1,
        seed=1,
    )
    return DecoderRecipe((first, second), model={"width": 192, "layers": 2}, dropout=(0.0, 0.1))


def polish() -> DecoderRecipe:
    """A further stage for a decoder that is there already, on prose alone: ten minutes on one core."""
    schedule = DecoderSchedule(
        epochs=1, describe={"PROSE": 1.0}, generate={"PROSE": 0.25}, learning_rate=5e-4, without_neighbours=0.1, save_every=20, seed=2
    )
    return DecoderRecipe((schedule,), dropout=(0.1,), continues=True)


def tiny() -> DecoderRecipe:
    """Seconds on one core, for tests: on the shipped sample, a width of 32."""
    everything = {"PROSE": 1.0, "CLASSES": 1.0, "NAME": 1.0, "SYSTEMATIC_NAME": 1.0, "OTHER": 1.0}
    schedule = DecoderSchedule(epochs=2, describe=everything, generate=everything, batch_tokens=1200, save_every=5)
    return DecoderRecipe(
        (schedule,),
        kinds=("sample",),
        text_vocabulary=600,
        model={"width": 32, "layers": 1, "heads": 2, "feed_forward": 32},
        dropout=(0.1,),
    )


DECODER_RECIPES: dict[str, Callable[[], DecoderRecipe]] = {"decoder": shipped, "polish": polish, "tiny-decoder": tiny}


def read_corpus(data: Path, kinds: tuple[str, ...], benchmark: Path = BENCHMARK) -> Corpus:
    """Read the pairs of a folder; DatasetError when a file is unusable or a benchmark molecule is among the pairs."""
    queries = read_descriptions(benchmark / "validation.tsv")
    return gather(read_pairs(data, kinds, frozenset(inchikey_of(query.smiles) for query in queries)))


def train_decoder(
    recipe: DecoderRecipe, model: Path, data: Path, out: Path, report: Callable[[str], None] = print, compute: Compute = PLAIN
) -> str:
    """Train in the folder `out`, from where an earlier run of it ended, and write `out/checkpoint`; return its version.

    `model` is the folder of the encoder's checkpoint, which stays as it is. DatasetError when the folder belongs to another run.
    """
    checkpoint = load_checkpoint(model)
    out.mkdir(parents=True, exist_ok=True)
    described = json.dumps({"encoder": checkpoint.version, **asdict(recipe)}, indent=1)
    note = out / "recipe.json"
    if note.exists() and note.read_text() != described:
        raise DatasetError(f"{out} holds a run of another recipe or another encoder; name an empty folder with --out")
    note.write_text(described)
    corpus = read_corpus(data, recipe.kinds)
    decoder, vocabularies = _continued(model) if recipe.continues else _begun(recipe, checkpoint, corpus)
    report(f"{len(corpus.smiles)} molecules, {len(corpus.examples)} texts, {len(vocabularies.text)} pieces of words")
    readings = Readings(checkpoint, corpus, vocabularies, recipe.manners(Task.DESCRIBE), recipe.manners(Task.GENERATE))
    report("neighbours found")
    for stage, (schedule, dropout) in enumerate(zip(recipe.schedules, recipe.dropout, strict=True)):
        for module in decoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        DecoderTrainer(decoder, readings, corpus.examples, vocabularies.text.encode_all, schedule, report, compute).run(
            out / f"{stage}-{STATE}"
        )
    version = add_decoder(model, out / "checkpoint", decoder.cpu(), vocabularies)
    report(f"checkpoint {version} in {out / 'checkpoint'}")
    return version


def _continued(model: Path) -> tuple[Decoder, Vocabularies]:
    writing = load_decoder(model)
    writing.decoder.requires_grad_(True)
    return writing.decoder, writing.vocabularies


def _begun(recipe: DecoderRecipe, checkpoint: Checkpoint, corpus: Corpus) -> tuple[Decoder, Vocabularies]:
    vocabularies = Vocabularies(
        TextVocabulary.learn(vocabulary_texts(corpus.examples), recipe.text_vocabulary), SmilesVocabulary(smiles_tokens(corpus.smiles))
    )
    torch.manual_seed(recipe.schedules[0].seed)
    encoder = checkpoint.model.config
    config = DecoderConfig(len(vocabularies.text), len(vocabularies.smiles), encoder.width, encoder.dimension, **recipe.model)
    return Decoder(config), vocabularies
