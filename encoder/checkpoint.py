"""Reads and writes checkpoints: safetensors and JSON in one folder, named by a hash of their content."""

import hashlib
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
from encoder.manifest import DEFAULT_WEIGHTS, FORMAT, MANIFEST, CheckpointError, parse_json, read_file, read_manifest, to_bytes, version_of
from encoder.model.atomas import AtomasEncoder
from encoder.model.config import EncoderConfig
from encoder.molecules import STANDARD_VERSION
from encoder.quantisation import dequantised, quantise

__all__ = ["DEFAULT_WEIGHTS", "Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]

_WEIGHTS, _FEATURES = "weights.safetensors", "features.json"
_TABLE = ".table"


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
        if name.endswith(_TABLE):
            tensors |= {f"{name}.{part}": stored for part, stored in quantise(tensor, table_bits).items()}
        else:
            tensors[name] = tensor.to(torch.float16).contiguous()
    features = {
        "text": {"ngrams": text_features.ngrams, "buckets": text_features.buckets},
        "molecule": {"environments": molecule_features.environments, "keys": molecule_features.keys},
    }
    files = {_WEIGHTS: save(tensors), _FEATURES: to_bytes(features)}
    manifest = {"format": FORMAT, "config": model.config.to_json(), "features": FEATURES_VERSION, "standard": STANDARD_VERSION}
    return write_files(folder, files, manifest)


def write_files(folder: Path, files: dict[str, bytes], manifest: dict[str, Any]) -> str:
    """Write the files of a checkpoint, the manifest with their hashes last; return the version."""
    manifest = {**manifest, "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in {**files, MANIFEST: to_bytes(manifest)}.items():
        (folder / name).write_bytes(content)
    return version_of(manifest)


def add_hierarchy(source: Path, target: Path, model: AtomasEncoder) -> str:
    """Write the checkpoint in the folder `source` again with the model's hierarchy in it; return the new version.

    Everything else is copied as it is stored: tables that were quantised twice would be others.
    """
    manifest = read_manifest(source)
    contents = {name: verified(source / name, manifest) for name in manifest["sha256"]}
    tensors = {name: tensor for name, tensor in load(contents[_WEIGHTS]).items() if not name.startswith("hierarchy.")}
    added = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("hierarchy.")}
    contents[_WEIGHTS] = save(tensors | {name: tensor.to(torch.float16).contiguous() for name, tensor in added.items()})
    return write_files(target, contents, {**manifest, "config": model.config.to_json()})


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint into 32-bit floats; CheckpointError when it is missing, damaged, foreign or made for other features."""
    manifest = read_manifest(folder)
    contents = {name: verified(folder / name, manifest) for name in (_WEIGHTS, _FEATURES)}
    features = parse_json(folder / _FEATURES, contents[_FEATURES])
    try:
        tensors = load(contents[_WEIGHTS])
        idf: NDArray[np.float32] = tensors.pop("text.idf").numpy()
        text_features = TextFeatures(features["text"]["ngrams"], idf, features["text"]["buckets"])
        molecule_features = MoleculeFeatures(features["molecule"]["environments"], features["molecule"]["keys"])
        # Without memory: what is stored takes its place, so that no table is filled with random numbers for nothing.
        with torch.device("meta"):
            model = AtomasEncoder(EncoderConfig.from_json(manifest["config"]))
        model.load_state_dict(dequantised(tensors, _TABLE), assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds weights that do not fit its configuration: {error}") from error
    model.eval()
    model.requires_grad_(False)
    return Checkpoint(model, text_features, molecule_features, version_of(manifest))


def verified(path: Path, manifest: dict[str, Any]) -> bytes:
    """The content of a checkpoint's file; CheckpointError when it is missing or not what the manifest says."""
    content = read_file(path)
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict) or hashlib.sha256(content).hexdigest() != hashes.get(path.name):
        raise CheckpointError(f"{path} is damaged: its content does not match the manifest; restore it or train again")
    return content
