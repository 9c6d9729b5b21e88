"""Builds the service from its settings: the only file that knows every adapter."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import structlog

from encoder.molecules import STANDARD_VERSION, Limits
from server.adapters.chemistry_pool import ChemistryPool
from server.adapters.disk_space import DiskSpace
from server.adapters.edge_index import EdgeIndex
from server.adapters.folder_lock import FolderLock
from server.adapters.local_queue import LocalQueue
from server.adapters.qdrant_index import QdrantIndex
from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.domain.errors import Reason
from server.domain.models import ModelVersion
from server.jobs import EmbedCompounds, Job, ReadChunk
from server.ports import Ports, VectorIndex
from server.settings import Settings
from server.usecases.track_operations import fail_operation, run_job, sweep

log = structlog.get_logger(__name__)


@contextmanager
def service(settings: Settings) -> Iterator[Ports]:
    """The embedded service, working while the block runs; everything is closed in order at its end.

    Raises DATA_DIR_IN_USE, SCHEMA_MISMATCH, DATABASE_UNAVAILABLE, INDEX_UNAVAILABLE, and encoder.checkpoint.CheckpointError.
    """
    # The model brings torch: whoever only needs the settings' names must not pay for it.
    from encoder.batching import TokenBudgetBatcher
    from encoder.inference import Encoder
    from server.adapters.local_encoder import LocalEncoder

    cores = os.cpu_count() or 1
    with ExitStack() as stack:
        stack.callback(FolderLock(settings.data_dir).close)
        if not settings.database_url:
            migrate(settings.sql_url)
        database = SqlDatabase(settings.sql_url)
        stack.callback(database.close)
        database.check()
        limits = Limits(max_characters=settings.max_smiles_characters, max_atoms=settings.max_atoms, seconds=settings.molecule_seconds)
        chemistry = ChemistryPool(settings.chemistry_processes or cores, limits)
        stack.callback(chemistry.close)
        chemistry.warm()
        model = Encoder.load(settings.model_dir, threads=settings.encoder_threads or cores)
        batcher = TokenBudgetBatcher(model, settings.encoder_batch_tokens, settings.encoder_batch_wait_seconds)
        encoder = LocalEncoder(model, batcher, STANDARD_VERSION)
        stack.callback(encoder.close)
        index = _index(settings, encoder.model)
        stack.callback(index.close)
        queue = LocalQueue(settings.job_attempts)
        ports = Ports(database, index, encoder, chemistry, queue, DiskSpace(settings.data_dir, settings.min_free_disk_bytes))
        queue.start(lambda job: run_job(job, ports), lambda job, reason, message: _give_up(job, reason, message, ports))
        stack.callback(queue.close)
        stack.callback(_repeat(lambda: sweep(ports), settings.sweep_seconds))
        yield ports


def _index(settings: Settings, model: ModelVersion) -> VectorIndex:
    if settings.qdrant_url:
        return QdrantIndex(settings.qdrant_url, model.version, model.dimension)
    folder = settings.data_dir / "index" / model.version
    return EdgeIndex.open(folder, model.version, model.dimension, optimise_points=settings.index_optimise_points)


def _give_up(job: Job, reason: Reason, message: str, ports: Ports) -> None:
    if isinstance(job, ReadChunk | EmbedCompounds):
        fail_operation(job.operation, reason, message, ports)


def _repeat(work: Callable[[], object], seconds: float) -> Callable[[], None]:
    """Does the work now and every so often on a thread of its own; returns what stops it."""
    stopping = threading.Event()

    def loop() -> None:
        while True:
            try:
                work()
            except Exception:
                # The next round may find the store back.
                log.warning("sweep failed", exc_info=True)
            if stopping.wait(seconds):
                return

    thread = threading.Thread(target=loop, name="sweep", daemon=True)
    thread.start()

    def stop() -> None:
        stopping.set()
        thread.join()

    return stop
