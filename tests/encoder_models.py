"""A small encoder over the shipped sample of pairs, untrained but with open gates, for tests that need any model at all."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from encoder.checkpoint import Checkpoint
from encoder.features import MoleculeFeatures, TextFeatures
from encoder.model.atomas import AtomasEncoder
from encoder.model.config import EncoderConfig
from encoder.training.dataset import Pair, read_pairs

SAMPLE = Path(__file__).parents[1] / "data" / "sample_pairs"


@cache
def sample_pairs() -> tuple[Pair, ...]:
    """The shipped sample of pairs."""
    return tuple(read_pairs(SAMPLE, ["sample"], frozenset()))


@cache
def sample_features() -> tuple[TextFeatures, MoleculeFeatures]:
    """Features learnt from the sample."""
    text = TextFeatures.learn((pair.text for pair in sample_pairs()), 1500, 1500, min_texts=2, buckets=64)
    return text, MoleculeFeatures.learn(sorted({pair.smiles for pair in sample_pairs()}), min_molecules=2)


def small_model(layers: int = 2, seed: int = 0, max_tokens: int = 4096, hierarchy_width: int = 0) -> AtomasEncoder:
    """Random weights; the gates of the layers and the pooling weights are open, so that every part has its say."""
    text, molecule = sample_features()
    config = EncoderConfig(text.rows, molecule.rows, width=32, head_width=64, dimension=32, attention_heads=2, attention_width=16)
    torch.manual_seed(seed)
    model = AtomasEncoder(replace(config, layers=layers, feed_forward_width=32, max_tokens=max_tokens, hierarchy_width=hierarchy_width))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("_gate", "importance.weight")):
                parameter.normal_()
            if name.endswith(".table"):
                parameter.normal_(std=0.5)
    return model.eval().requires_grad_(False)


def small_checkpoint(layers: int = 2, seed: int = 0, max_tokens: int = 4096, hierarchy_width: int = 0) -> Checkpoint:
    """The small model as if it had been loaded."""
    text, molecule = sample_features()
    return Checkpoint(small_model(layers, seed, max_tokens, hierarchy_width), text, molecule, f"small-{layers}-{seed}-{hierarchy_width}")
