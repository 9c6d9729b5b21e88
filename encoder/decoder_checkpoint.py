"""The decoder as part of a checkpoint: two files beside the encoder's, which need not be there and are read only when asked for."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from encoder.checkpoint import verified, write_files
from encoder.manifest import CheckpointError, parse_json, read_manifest, to_bytes
from encoder.model.decoder import Decoder, DecoderConfig
from encoder.quantisation import dequantised, quantise
from encoder.tokenizer import SmilesVocabulary
from encoder.vocabulary import TextVocabulary

_WEIGHTS, _WORDS = "decoder.safetensors", "decoder.json"
_TABLE = ".table8"


class NoDecoderError(CheckpointError):
    """The checkpoint is one of an encoder alone."""


@dataclass(frozen=True, slots=True)
class Vocabularies:
    """What both directions are written with."""

    text: TextVocabulary
    smiles: SmilesVocabulary


@dataclass(frozen=True, slots=True)
class WritingModel:
    """A decoder with its vocabularies."""

    decoder: Decoder
    vocabularies: Vocabularies


def add_decoder(source: Path, target: Path, decoder: Decoder, vocabularies: Vocabularies) -> str:
    """Write the checkpoint of the folder `source` with this decoder to `target`; return the new version.

    Matrices are stored with 8 bits a number, all else in 16-bit floats. The encoder's files are copied as they are.
    """
    manifest = read_manifest(source)
    files = {name: verified(source / name, manifest) for name in manifest["sha256"]}
    tensors: dict[str, Tensor] = {}
    for name, tensor in decoder.state_dict().items():
        if tensor.ndim == 2:
            tensors |= {f"{name}{_TABLE}.{part}": stored for part, stored in quantise(tensor, 8).items()}
        else:
            tensors[name] = tensor.to(torch.float16).contiguous()
    words = {
        "config": decoder.config.to_json(),
        "text": vocabularies.text.to_json(),
        "smiles": [token for token in vocabularies.smiles.tokens if len(token) > 1],
    }
    return write_files(target, {**files, _WEIGHTS: save(tensors), _WORDS: to_bytes(words)}, manifest)


def load_decoder(folder: Path) -> WritingModel:
    """Read the decoder of a checkpoint; NoDecoderError when it has none, CheckpointError when it is damaged or foreign."""
    manifest = read_manifest(folder)
    if _WEIGHTS not in manifest.get("sha256", {}):
        raise NoDecoderError(
            f"{folder} holds an encoder alone, which cannot write; train its decoder with `python -m encoder train decoder`"
        )
    words = parse_json(folder / _WORDS, verified(folder / _WORDS, manifest))
    content = verified(folder / _WEIGHTS, manifest)
    try:
        vocabularies = Vocabularies(TextVocabulary.from_json(words["text"]), SmilesVocabulary(words["smiles"]))
        decoder = Decoder(DecoderConfig.from_json(words["config"]))
        stored = dequantised(load(content), _TABLE)
        decoder.load_state_dict({name.removesuffix(_TABLE): tensor for name, tensor in stored.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds a decoder that does not fit its configuration: {error}") from error
    decoder.eval()
    decoder.requires_grad_(False)
    return WritingModel(decoder, vocabularies)
