"""Where this process finds encoders and indexes of its models: checkpoints in folders, indexes in the data folder or on a Qdrant server."""

import shutil
from collections.abc import Callable
from pathlib import Path

from encoder.manifest import DEFAULT_WEIGHTS, MANIFEST, CheckpointError, ModelFacts
from encoder.molecules import STANDARD_VERSION
from server.adapters.edge_index import EdgeIndex
from server.adapters.observed import observed_index
from server.adapters.qdrant_admin import QdrantAdmin
from server.adapters.qdrant_index import QdrantIndex
from server.adapters.qdrant_layout import collection_settings
from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelVersion, StoredModel
from server.ports import Encoder, VectorIndex
from server.settings import Settings


class ModelPlaces:
    """`server.adapters.live_models.Places` by the settings; `encode` makes an encoder of a stored model, here or in the workers."""

    def __init__(self, settings: Settings, encode: Callable[[StoredModel], Encoder]) -> None:
        self._settings = settings
        self._encode = encode
        self._admin = QdrantAdmin.of(settings)

    def open_encoder(self, model: StoredModel) -> Encoder:
        """Raises ENCODER_UNAVAILABLE."""
        return self._encode(model)

    def open_index(self, model: ModelVersion) -> VectorIndex:
        """Opens or creates. Raises INDEX_UNAVAILABLE, SCHEMA_MISMATCH, DATA_DIR_IN_USE."""
        settings = self._settings
        if settings.qdrant_url:
            index: VectorIndex = QdrantIndex(
                settings.qdrant_url,
                model.version,
                model.dimension,
                fragment_dimension=model.fragment_dimension,
                api_key=settings.qdrant_api_key or None,
                timeout_seconds=settings.qdrant_timeout_seconds,
                settings=collection_settings(settings),
            )
        else:
            folder, optimise = self._folder(model.version), settings.index_optimise_points
            index = EdgeIndex.open(
                folder, model.version, model.dimension, fragment_dimension=model.fragment_dimension, optimise_points=optimise
            )
        return observed_index(index)

    def discard_index(self, version: str) -> None:
        """Removes an index that is not open here."""
        if self._settings.qdrant_url:
            self._admin.drop(version)
        else:
            shutil.rmtree(self._folder(version), ignore_errors=True)

    def stored_indexes(self) -> list[str]:
        """Versions of every index that there is."""
        if self._settings.qdrant_url:
            return self._admin.versions()
        return sorted(folder.parent.name for folder in self._folder("").glob("*/manifest.json"))

    def read_checkpoint(self, path: Path) -> ModelVersion:
        """Raises INVALID_ARGUMENT where there is no checkpoint that this release can use."""
        try:
            return version_of(ModelFacts.read(path))
        except CheckpointError as error:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{error}.") from None

    def _folder(self, version: str) -> Path:
        return self._settings.data_dir / "index" / version


def version_of(facts: ModelFacts) -> ModelVersion:
    """The domain's view of a checkpoint."""
    return ModelVersion(facts.version, facts.dimension, STANDARD_VERSION, facts.max_tokens, facts.fragment_dimension)


def facts_of(model: ModelVersion) -> ModelFacts:
    """What a server must know to ask workers for the model's vectors."""
    return ModelFacts(model.version, model.dimension, model.max_tokens, model.fragment_dimension)


def find_checkpoint(model: StoredModel, settings: Settings) -> Path:
    """The folder that holds the model's weights: where they were registered, else where the settings look, else the shipped ones.

    Raises ENCODER_UNAVAILABLE.
    """
    folders = [Path(model.path)] if model.path else []
    for folder in dict.fromkeys((*folders, settings.model_dir or DEFAULT_WEIGHTS, DEFAULT_WEIGHTS)):
        if (folder / MANIFEST).exists():
            try:
                if ModelFacts.read(folder).version == model.version:
                    return folder
            except CheckpointError:
                continue
    place = model.path or "the folder that ATOMAS_MODEL_DIR names"
    raise AtomasError(
        Reason.ENCODER_UNAVAILABLE,
        f"No checkpoint of model {model.version} is in {place}. Put it back, or give that model up: `python -m server use-model` lets the model of "
        "ATOMAS_MODEL_DIR answer, and its index is filled from the database.",
    )
