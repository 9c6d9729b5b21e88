"""All ports of a use case in one value; `bootstrap.py` alone decides who provides them."""

from dataclasses import dataclass, replace

from server.ports.chemistry import Chemistry
from server.ports.database import Database
from server.ports.encoder import Encoder
from server.ports.generator import Generator
from server.ports.jobs import JobQueue
from server.ports.models import Models
from server.ports.storage import Storage
from server.ports.structure_index import StructureIndex
from server.ports.vector_index import VectorIndex


@dataclass(frozen=True)
class Ports:
    """Everything a use case may touch."""

    database: Database
    index: VectorIndex
    encoder: Encoder
    chemistry: Chemistry
    queue: JobQueue
    storage: Storage
    models: Models
    structures: StructureIndex
    # None where this process does not generate but leaves it to workers.
    generator: Generator | None = None

    def with_model(self, version: str) -> "Ports":
        """The same with encoder and index of one model, whichever answers. Raises MODEL_NOT_FOUND, ENCODER_UNAVAILABLE, INDEX_UNAVAILABLE."""
        return replace(self, encoder=self.models.encoder(version), index=self.models.index(version))
