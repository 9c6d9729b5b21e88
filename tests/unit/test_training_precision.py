"""Training in bfloat16: nearly the losses of 32-bit floats, weights and moments still in 32 bits; a GPU that is not there is an error."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.__main__ import main
from encoder.checkpoint import load_checkpoint, save_checkpoint
from encoder.decoder_checkpoint import Vocabularies
from encoder.model.decoder import Decoder, DecoderConfig
from encoder.prose import Manner
from encoder.tokenizer import SmilesVocabulary
from encoder.training.captions import gather, smiles_tokens, vocabulary_texts
from encoder.training.compute import PLAIN, Compute
from encoder.training.decoding import DecoderTrainer
from encoder.training.decoding_recipes import tiny
from encoder.training.hierarchy import HierarchySchedule, HierarchyTrainer
from encoder.training.loop import TrainingSet, Validation
from encoder.training.readings import Readings
from encoder.training.recipes import RECIPES, train
from encoder.vocabulary import TextVocabulary
from tests.encoder_models import sample_features, sample_pairs, small_model

BFLOAT16 = Compute(bf16=True)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    pairs = list(sample_pairs()[::20])
    return TrainingSet(pairs, [], Validation([pair.text for pair in pairs[:20]], [pair.smiles for pair in pairs[:20]]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_checkpoint(folder, small_model(layers=0), *sample_features(), table_bits=8)
    return folder


def _nearly(loss: Callable[[Compute], float]) -> None:
    plain, short = loss(PLAIN), loss(BFLOAT16)
    assert np.isfinite(short)
    assert short != plain
    assert short == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("layers", [0, 1])
def test_the_encoder_learns_in_bfloat16_as_in_full_precision(data: TrainingSet, tmp_path: Path, layers: int) -> None:
    recipe = RECIPES["tiny"]()
    recipe = replace(recipe, schedule=replace(recipe.schedule, epochs=1), model={**recipe.model, "layers": layers})

    def loss(compute: Compute) -> float:
        history = train(recipe, data, tmp_path / str(compute.bf16), lambda line: None, compute=compute)
        assert {tensor.dtype for tensor in load_checkpoint(tmp_path / str(compute.bf16) / "checkpoint").model.parameters()} == {
            torch.float32
        }
        return history[-1]["loss"]

    _nearly(loss)


def test_the_hierarchy_learns_in_bfloat16_as_in_full_precision(data: TrainingSet, folder: Path, tmp_path: Path) -> None:
    schedule = HierarchySchedule(epochs=1, batch=16, group=4, width=16, judged_queries=5, judged_candidates=5)

    def loss(compute: Compute) -> float:
        trainer = HierarchyTrainer(load_checkpoint(folder), data, schedule, lambda line: None, compute)
        history = trainer.run(tmp_path / f"{compute.bf16}.safetensors")
        assert {tensor.dtype for tensor in trainer.model.parameters()} == {torch.float32}
        return sum(history[-1][f"loss_{level}"] for level in range(3))

    _nearly(loss)


def test_the_decoder_learns_in_bfloat16_as_in_full_precision(data: TrainingSet, folder: Path, tmp_path: Path) -> None:
    checkpoint, corpus = load_checkpoint(folder), gather(data.pairs)
    words = Vocabularies(TextVocabulary.learn(vocabulary_texts(corpus.examples), 300), SmilesVocabulary(smiles_tokens(corpus.smiles)))
    readings = Readings(checkpoint, corpus, words, set(Manner), set(Manner))
    recipe = tiny()
    schedule = replace(recipe.schedules[0], epochs=1)

    def losses(compute: Compute) -> dict[str, float]:
        torch.manual_seed(0)
        decoder = Decoder(DecoderConfig(len(words.text), len(words.smiles), 32, 32, **recipe.model))
        trainer = DecoderTrainer(decoder, readings, corpus.examples, words.text.encode_all, schedule, lambda line: None, compute)
        history = trainer.run(tmp_path / f"{compute.bf16}.safetensors")
        assert {tensor.dtype for tensor in decoder.parameters()} == {torch.float32}
        return history[-1]

    plain, short = losses(PLAIN), losses(BFLOAT16)
    for task in ("describe", "generate"):
        assert short[task] != plain[task]
        assert short[task] == pytest.approx(plain[task], rel=0.05)


def test_precision_follows_the_device_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [Compute.of(*asked).bf16 for asked in (("cpu",), ("cuda",), ("cpu", True), ("cuda", False))] == [False, True, True, False]


def test_a_gpu_that_is_not_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", "tiny", "--device", "cuda", "--out", str(tmp_path)]) == 1
    assert "no GPU" in capsys.readouterr().err
