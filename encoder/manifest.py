"""What a checkpoint says of itself, read without torch: version, sizes, how it counts tokens."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder.features import FEATURES_VERSION
from encoder.model.config import EncoderConfig
from encoder.molecules import STANDARD_VERSION
from encoder.tokenizer import split_smiles, split_text

FORMAT = "atomas-1"
MANIFEST = "model.json"
DEFAULT_WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the checkpoint that the project ships."""


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What must be known of a model to ask others for its vectors."""

    version: str
    dimension: int
    max_tokens: int
    fragment_dimension: int = 0
    """Length of the vectors of fragments and phrases; 0 for a model without a hierarchy."""

    @classmethod
    def read(cls, folder: Path | None = None) -> "ModelFacts":
        """Of a checkpoint folder, by default the shipped one; raises `CheckpointError`."""
        manifest = read_manifest(folder or DEFAULT_WEIGHTS)
        try:
            config = EncoderConfig.from_json(manifest["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder or DEFAULT_WEIGHTS} has a configuration that this code cannot read: {error}") from error
        return cls(version_of(manifest), config.dimension, config.max_tokens, config.hierarchy_width)


def text_tokens(text: str) -> int:
    """Count the tokens of a text: words, numbers, signs."""
    return len(split_text(text))


def molecule_tokens(smiles: str) -> int:
    """Count the tokens of a molecule: its SMILES tokens and one for the whole."""
    return 1 + len(split_smiles(smiles))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint that this code can use; raises `CheckpointError`."""
    path = folder / MANIFEST
    manifest = parse_json(path, read_file(path))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no {FORMAT} checkpoint; name a folder that `python -m encoder train` wrote")
    for field, own in (("features", FEATURES_VERSION), ("standard", STANDARD_VERSION)):
        if manifest.get(field) != own:
            raise CheckpointError(f"{folder} was made with version {manifest.get(field)} of {field}, this code has {own}; train it again")
    return manifest


def version_of(manifest: dict[str, Any]) -> str:
    """The content hash that names a model: the manifest holds the hashes of all else."""
    return hashlib.sha256(to_bytes(manifest)).hexdigest()[:16]


def to_bytes(value: Any) -> bytes:
    """JSON in the one spelling that hashes are taken of."""
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n").encode()


def read_file(path: Path) -> bytes:
    """The content of a checkpoint's file; raises `CheckpointError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); name a folder that holds a checkpoint") from error


def parse_json(path: Path, content: bytes) -> Any:
    """What the file says; raises `CheckpointError` when it is damaged."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged, it is not JSON: {error}") from error
