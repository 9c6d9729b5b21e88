"""Declared fake of the places where encoders and indexes are: each is made when it is named, and stays."""

from collections.abc import Sequence
from pathlib import Path

from server.adapters.live_models import LiveModels
from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelVersion, StoredModel
from server.ports import Database, Encoder, JobQueue, Ports, VectorIndex
from server.usecases.manage_models import settle_serving
from tests.fakes import FakeChemistry, FakeQueue, FakeStorage
from tests.fakes_database import FakeDatabase
from tests.fakes_index import FakeIndex
from tests.fakes_structures import FakeStructures


class FakePlaces:
    """Checkpoints are folders whose names are versions; those given at the beginning exist."""

    def __init__(self, known: Sequence[tuple[Encoder, VectorIndex]]) -> None:
        self.encoders = {encoder.model.version: encoder for encoder, _ in known}
        self.indexes = {index.model_version: index for _, index in known}

    def add(self, encoder: Encoder) -> None:
        """Another checkpoint."""
        self.encoders[encoder.model.version] = encoder

    def open_encoder(self, model: StoredModel) -> Encoder:
        if model.version not in self.encoders:
            raise AtomasError(Reason.ENCODER_UNAVAILABLE, f"No checkpoint of {model.version}.")
        return self.encoders[model.version]

    def open_index(self, model: ModelVersion) -> VectorIndex:
        return self.indexes.setdefault(model.version, FakeIndex(model.version, model.dimension, model.fragment_dimension))

    def discard_index(self, version: str) -> None:
        self.indexes.pop(version, None)

    def stored_indexes(self) -> list[str]:
        return sorted(self.indexes)

    def read_checkpoint(self, path: Path) -> ModelVersion:
        if path.name not in self.encoders:
            raise AtomasError(Reason.INVALID_ARGUMENT, f"{path} holds no checkpoint.")
        return self.encoders[path.name].model


def live_models(database: Database, places: FakePlaces) -> LiveModels:
    """The real registry; the first encoder's model answers."""
    settle_serving(next(iter(places.encoders.values())).model, "", lambda model: True, database)
    models = LiveModels(database, places)
    models.refresh()
    return models


def fake_ports(encoder: Encoder, queue: JobQueue | None = None) -> Ports:
    """Fakes of everything around an encoder."""
    database, index = FakeDatabase(), FakeIndex(encoder.model.version, encoder.model.dimension, encoder.model.fragment_dimension)
    models = live_models(database, FakePlaces([(encoder, index)]))
    return Ports(database, index, encoder, FakeChemistry(), queue or FakeQueue(), FakeStorage(), models, FakeStructures())
