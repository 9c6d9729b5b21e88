"""What an in-process index keeps on disk: a lock, a manifest, and the shard that the manifest names."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from server.adapters.folder_lock import FolderLock
from server.domain.errors import AtomasError, Reason


@dataclass(frozen=True)
class Manifest:
    """What the index was made for, and which shard holds it."""

    model_version: str
    dimension: int
    # Name of the live shard's folder; any other is a copy that was never finished.
    shard: str
    # Points that the shard held when it was last optimised.
    optimised_points: int = 0
    # Length of the vectors of fragments; 0 where there is no place for them.
    fragment_dimension: int = 0
    format: int = 1


class IndexFolder:
    """A locked folder. The manifest is replaced atomically, so a crash at any moment leaves one whole shard and rubbish at worst."""

    def __init__(self, folder: Path) -> None:
        """Raises DATA_DIR_IN_USE."""
        self.path = folder
        self._lock = FolderLock(folder)

    def manifest(self) -> Manifest | None:
        """None before the first `write`. Raises INDEX_UNAVAILABLE when it cannot be read."""
        try:
            said = json.loads((self.path / "manifest.json").read_text())
            if said["format"] != 1:
                raise ValueError(f"unknown format {said['format']}")
            return Manifest(**said)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AtomasError(
                Reason.INDEX_UNAVAILABLE,
                f"The vector index in {self.path} cannot be read ({error}). Remove the folder and start again: it is filled anew from the database.",
            ) from None

    def write(self, manifest: Manifest) -> None:
        """Returns when the manifest survives a power cut."""
        new = self.path / "manifest.json.new"
        with new.open("w") as file:
            json.dump(asdict(manifest), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / "manifest.json")
        _sync(self.path)

    def shard(self, name: str) -> Path:
        """Where the shard of that name is."""
        return self.path / "shards" / name

    def discard_shards_but(self, name: str | None) -> None:
        """Removes what crashed or replaced optimisations left."""
        for folder in (self.path / "shards").glob("*"):
            if folder.name != name:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Lets other processes use the folder."""
        self._lock.close()


def sync_tree(folder: Path) -> None:
    """Returns when every file of the folder survives a power cut. Raises FileNotFoundError when one goes away meanwhile."""
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(Path(parent) / name)
        _sync(Path(parent))
    _sync(folder.parent)


def tree_bytes(folder: Path) -> int:
    """Size of the folder's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
