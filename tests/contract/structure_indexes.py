"""Every structure index there is, opened empty for a test."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from deploy.services import INSTALL
from server.adapters.cartridge_structures import open_cartridge
from server.adapters.chemistry_pool import ChemistryPool
from server.adapters.keeper_process import KeeperProcess
from server.adapters.rdkit_structures import RdkitStructures
from server.adapters.structure_server import RemoteKeeper, StructureServer
from server.ports import StructureIndex
from tests.fakes_structures import FakeStructures
from tests.memory import MEMORY
from tests.services import postgres

Opened: TypeAlias = AbstractContextManager[StructureIndex]
PATTERN_SECONDS = 5.0


@contextmanager
def fake() -> Iterator[StructureIndex]:
    """Brute force."""
    yield FakeStructures()


@contextmanager
def keeper() -> Iterator[StructureIndex]:
    """The keeper process on a file of its own."""
    with TemporaryDirectory(dir=MEMORY) as folder, closing(keeper_on(Path(folder) / "structures.log")) as index:
        yield index


def keeper_on(path: Path, live_molecules: int = 100, pattern_seconds: float = PATTERN_SECONDS) -> RdkitStructures:
    """The keeper process on this file."""
    return RdkitStructures(KeeperProcess(path, live_molecules), pattern_seconds)


@contextmanager
def remote() -> Iterator[StructureIndex]:
    """The keeper of a fleet, over loopback gRPC."""
    with TemporaryDirectory(dir=MEMORY) as folder, closing(KeeperProcess(Path(folder) / "structures.log", 100)) as keeper:
        server = StructureServer(keeper, "127.0.0.1:0")
        server.start()
        try:
            with closing(RdkitStructures(RemoteKeeper(f"grpc://127.0.0.1:{server.port}"), PATTERN_SECONDS)) as index:
                yield index
        finally:
            server.stop(0)


@contextmanager
def cartridge() -> Iterator[StructureIndex]:
    """The RDKit cartridge in a PostgreSQL of its own."""
    with postgres() as server, closing(ChemistryPool(1)) as chemistry:
        chemistry.warm()
        index = open_cartridge(server.url(), PATTERN_SECONDS, chemistry)
        assert index is not None, f"PostgreSQL has no RDKit cartridge: run `{INSTALL}`."
        with closing(index):
            yield index


STRUCTURE_INDEXES: dict[str, Callable[[], Opened]] = {"fake": fake, "keeper": keeper, "remote": remote, "cartridge": cartridge}
