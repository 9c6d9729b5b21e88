"""Reads and writes checkpoints: safetensors and JSON in one folder, named by a hash of their content."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from encoder.features import FEATURES_VERSION, MoleculeFeatures, TextFeatures
from encoder.model.atomas import AtomasEncoder
from encoder.model.config import EncoderConfig
from encoder.molecules import STANDARD_VERSION
from encoder.quantisation import dequantise, quantise

FORMAT = "atomas-1"
DEFAULT_WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the checkpoint that the project ships."""

_MANIFEST, _WEIGHTS, _FEATURES = "model.json", "weights.safetensors", "features.json"


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model with the features its tables are made for, and the version that names both."""

    model: AtomasEncoder
    text_features: TextFeatures
    molecule_features: MoleculeFeatures
    version: str


def save_checkpoint(
    folder: Path, model: AtomasEncoder, text_features: TextFeatures, molecule_features: MoleculeFeatures, table_bits: int = 8
) -> str:
    """Write a checkpoint and return its version. Tables are stored in 8 or 4 bits a number, all else in 16-bit floats.

    The manifest is written last: a folder without it is no checkpoint.
    """
    tensors: dict[str, Tensor] = {"text.idf": torch.from_numpy(text_features.learnt_idf.copy())}
    for name, tensor in model.state_dict().items():
        if name.endswith(".table"):
            tensors |= {f"{name}.{part}": stored for part, stored in quantise(tensor, table_bits).items()}
        else:
            tensors[name] = tensor.to(torch.float16).contiguous()
    features = {
        "text": {"ngrams": text_features.ngrams, "buckets": text_features.buckets},
        "molecule": {"environments": molecule_features.environments, "keys": molecule_features.keys},
    }
    files = {_WEIGHTS: save(tensors), _FEATURES: _to_bytes(features)}
    manifest = {
        "format": FORMAT,
        "config": model.config.to_json(),
        "features": FEATURES_VERSION,
        "standard": STANDARD_VERSION,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)
    for name, content in {**files, _MANIFEST: _to_bytes(manifest)}.items():
        (folder / name).write_bytes(content)
    return _version(manifest)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint into 32-bit floats; CheckpointError when it is missing, damaged, foreign or made for other features."""
    manifest = _json(folder / _MANIFEST, _read(folder / _MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{folder / _MANIFEST} is no {FORMAT} checkpoint; name a folder that `python -m encoder train` wrote")
    for field, own in (("features", FEATURES_VERSION), ("standard", STANDARD_VERSION)):
        if manifest.get(field) != own:
            raise CheckpointError(f"{folder} was made with version {manifest.get(field)} of {field}, this code has {own}; train it again")
    contents = {name: _verified(folder / name, manifest) for name in (_WEIGHTS, _FEATURES)}
    features = _json(folder / _FEATURES, contents[_FEATURES])
    try:
        tensors = load(contents[_WEIGHTS])
        idf: NDArray[np.float32] = tensors.pop("text.idf").numpy()
        text_features = TextFeatures(features["text"]["ngrams"], idf, features["text"]["buckets"])
        molecule_features = MoleculeFeatures(features["molecule"]["environments"], features["molecule"]["keys"])
        model = AtomasEncoder(EncoderConfig.from_json(manifest["config"]))
        model.load_state_dict(_dequantised(tensors))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds weights that do not fit its configuration: {error}") from error
    model.eval()
    model.requires_grad_(False)
    return Checkpoint(model, text_features, molecule_features, _version(manifest))


def _dequantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    tables: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        table, is_part, part = name.partition(".table.")
        if is_part:
            tables.setdefault(f"{table}.table", {})[part] = tensor
        else:
            state[name] = tensor.float()
    return state | {name: dequantise(parts) for name, parts in tables.items()}


def _version(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(_to_bytes(manifest)).hexdigest()[:16]


def _to_bytes(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); name a folder that holds a checkpoint") from error


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged, it is not JSON: {error}") from error


def _verified(path: Path, manifest: dict[str, Any]) -> bytes:
    content = _read(path)
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict) or hashlib.sha256(content).hexdigest() != hashes.get(path.name):
        raise CheckpointError(f"{path} is damaged: its content does not match the manifest; restore it or train again")
    return content
