"""A guarded service with two libraries, and keys for them."""

from collections.abc import Iterator

import grpc
import pytest

from server.domain.libraries import Library
from server.usecases.manage_libraries import create_library
from tests.builders import import_rows, row
from tests.log_state import logs_restored
from tests.security.served import Served, served
from tests.unit.conftest import World, world

__all__ = ["guarded", "world"]


@pytest.fixture
def guarded(world: World) -> Iterator[Served]:
    """Libraries `held`, with a compound and an import, and `other`."""
    for name in ("held", "other"):
        create_library(Library(name), world.ports)
    import_rows(world.ports, [row(1, "CCO", "id-1", "ethanol", "a primary alcohol")], library="held")
    world.work()
    with served(world.ports) as service:
        yield service


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """For tests that configure logs."""
    with logs_restored():
        yield


@pytest.fixture
def channel(guarded: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(guarded.address) as opened:
        yield opened
