"""The service's ports as declared fakes."""

from dataclasses import dataclass

import pytest

from server.ports import Ports
from server.usecases.track_operations import run_job
from tests.fakes import FakeChemistry, FakeEncoder, FakeQueue, FakeStorage
from tests.fakes_database import FakeDatabase
from tests.fakes_index import FakeIndex
from tests.fakes_models import FakePlaces, live_models
from tests.fakes_structures import FakeStructures


@dataclass(frozen=True)
class World:
    """Ports made of fakes, with handles on those that tests steer."""

    ports: Ports
    queue: FakeQueue
    index: FakeIndex
    encoder: FakeEncoder
    storage: FakeStorage
    places: FakePlaces
    structures: FakeStructures

    def work(self) -> None:
        """Does every job that was sent, and those that they send."""
        self.queue.run_all(lambda job: run_job(job, self.ports))


@pytest.fixture
def world() -> World:
    """An empty service."""
    return world_of(FakeEncoder())


def world_of(encoder: FakeEncoder) -> World:
    """An empty service with this model."""
    queue, storage = FakeQueue(), FakeStorage()
    index = FakeIndex(encoder.model.version, encoder.model.dimension, encoder.model.fragment_dimension)
    database = FakeDatabase()
    places = FakePlaces([(encoder, index)])
    models = live_models(database, places)
    structures = FakeStructures()
    # As the first sweep of an empty service finds.
    structures.declare_complete()
    ports = Ports(database, index, encoder, FakeChemistry(), queue, storage, models, structures)
    return World(ports, queue, index, encoder, storage, places, structures)
