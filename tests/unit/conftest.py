"""The service's ports as declared fakes."""

from dataclasses import dataclass

import pytest

from server.ports import Ports
from server.usecases.track_operations import run_job
from tests.fakes import FakeChemistry, FakeEncoder, FakeQueue, FakeStorage
from tests.fakes_database import FakeDatabase
from tests.fakes_index import FakeIndex


@dataclass(frozen=True)
class World:
    """Ports made of fakes, with handles on those that tests steer."""

    ports: Ports
    queue: FakeQueue
    index: FakeIndex
    encoder: FakeEncoder
    storage: FakeStorage

    def work(self) -> None:
        """Does every job that was sent, and those that they send."""
        self.queue.run_all(lambda job: run_job(job, self.ports))


@pytest.fixture
def world() -> World:
    """An empty service."""
    encoder, queue, storage = FakeEncoder(), FakeQueue(), FakeStorage()
    index = FakeIndex(encoder.model.version, encoder.model.dimension)
    return World(Ports(FakeDatabase(), index, encoder, FakeChemistry(), queue, storage), queue, index, encoder, storage)
