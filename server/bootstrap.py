"""Builds servers and workers from the settings: the only file that knows every adapter."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import structlog

from encoder.manifest import ModelFacts
from encoder.molecules import STANDARD_VERSION, Limits
from server.adapters.chemistry_pool import ChemistryPool
from server.adapters.disk_space import DiskSpace, NoLocalStorage
from server.adapters.edge_index import EdgeIndex
from server.adapters.folder_lock import FolderLock
from server.adapters.local_queue import LocalQueue
from server.adapters.qdrant_index import QdrantIndex
from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelVersion
from server.jobs import EmbedCompounds, EncodeItems
from server.ports import Encoder, Ports, VectorIndex
from server.settings import Settings
from server.usecases.track_operations import give_up, run_job, sweep

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)
THREAD_SWITCH_SECONDS = 0.0005


@contextmanager
def service(settings: Settings) -> Iterator[Ports]:
    """What a server works with while the block runs; everything is closed in order at its end.

    Raises INVALID_ARGUMENT, DATA_DIR_IN_USE, SCHEMA_MISMATCH, DATABASE_UNAVAILABLE, INDEX_UNAVAILABLE, and encoder.manifest.CheckpointError.
    """
    # A query passes through four threads. At Python's default of 5 ms each handover to one may wait as long for another that computes.
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    with ExitStack() as stack:
        yield _fleet_server(settings, stack) if settings.broker_url else _whole_service(settings, stack)


@contextmanager
def worker(settings: Settings, queues: Sequence[str], app: "Celery") -> Iterator[Ports]:
    """What a worker of these queues works with: models are loaded and processes are warm when the block begins. Raises as `service` does."""
    with ExitStack() as stack:
        database = _database(settings, stack)
        chemistry = _chemistry(settings, stack)
        if "import" in queues:
            chemistry.warm()
        encodes = {EmbedCompounds.queue, EncodeItems.queue} & set(queues)
        encoder = _local_encoder(settings, stack) if encodes else _worker_encoder(settings, app, stack)
        if encodes:
            encoder.encode_texts(["water"])
            encoder.encode_molecules(["O"])
        yield _fleet_ports(settings, database, chemistry, encoder, app, stack)


def broker(settings: Settings) -> "Celery":
    """The fleet's Celery application. Raises INVALID_ARGUMENT when a server of the fleet has no address here."""
    # Celery is of no use to the embedded service, which starts in half a second less without it.
    from server.adapters.broker import celery_app

    if not (settings.broker_url and settings.database_url and settings.qdrant_url):
        raise AtomasError(
            Reason.INVALID_ARGUMENT,
            "A fleet shares its servers: set ATOMAS_BROKER_URL, ATOMAS_DATABASE_URL and ATOMAS_QDRANT_URL together.",
        )
    return celery_app(settings.broker_url, settings.job_visibility_seconds)


def _whole_service(settings: Settings, stack: ExitStack) -> Ports:
    stack.callback(FolderLock(settings.data_dir).close)
    if not settings.database_url:
        migrate(settings.sql_url)
    database = _database(settings, stack)
    chemistry = _chemistry(settings, stack)
    chemistry.warm()
    encoder = _local_encoder(settings, stack)
    index = _index(settings, encoder.model)
    stack.callback(index.close)
    queue = LocalQueue(settings.job_attempts)
    ports = Ports(database, index, encoder, chemistry, queue, DiskSpace(settings.data_dir, settings.min_free_disk_bytes))
    queue.start(lambda job: run_job(job, ports), lambda job, reason, message: give_up(job, reason, message, ports))
    stack.callback(queue.close)
    stack.callback(_repeat(lambda: sweep(ports), settings.sweep_seconds))
    return ports


def _fleet_server(settings: Settings, stack: ExitStack) -> Ports:
    app = broker(settings)
    database = _database(settings, stack)
    chemistry = _chemistry(settings, stack)
    chemistry.warm()
    ports = _fleet_ports(settings, database, chemistry, _worker_encoder(settings, app, stack), app, stack)
    stack.callback(_repeat(lambda: sweep(ports), settings.sweep_seconds))
    return ports


def _fleet_ports(
    settings: Settings, database: SqlDatabase, chemistry: ChemistryPool, encoder: Encoder, app: "Celery", stack: ExitStack
) -> Ports:
    from server.adapters.celery_queue import CeleryQueue

    index = _index(settings, encoder.model)
    stack.callback(index.close)
    queue = CeleryQueue(app, encoder.model.version, settings.job_resend_seconds)
    stack.callback(app.close)
    return Ports(database, index, encoder, chemistry, queue, NoLocalStorage())


def _database(settings: Settings, stack: ExitStack) -> SqlDatabase:
    database = SqlDatabase(settings.sql_url)
    stack.callback(database.close)
    database.check()
    return database


def _chemistry(settings: Settings, stack: ExitStack) -> ChemistryPool:
    """Its processes start when they are first needed."""
    limits = Limits(max_characters=settings.max_smiles_characters, max_atoms=settings.max_atoms, seconds=settings.molecule_seconds)
    chemistry = ChemistryPool(settings.chemistry_processes or os.cpu_count() or 1, limits)
    stack.callback(chemistry.close)
    return chemistry


def _local_encoder(settings: Settings, stack: ExitStack) -> Encoder:
    # Whoever has no model in this process must not pay for torch.
    from encoder.batching import TokenBudgetBatcher
    from encoder.inference import Encoder as Model
    from server.adapters.local_encoder import LocalEncoder

    model = Model.load(settings.model_dir, threads=settings.encoder_threads or os.cpu_count() or 1)
    batcher = TokenBudgetBatcher(model, settings.encoder_batch_tokens, settings.encoder_batch_wait_seconds)
    encoder = LocalEncoder(model, batcher, STANDARD_VERSION)
    stack.callback(encoder.close)
    return encoder


def _worker_encoder(settings: Settings, app: "Celery", stack: ExitStack) -> Encoder:
    from server.adapters.worker_encoder import WorkerEncoder

    facts = ModelFacts.read(settings.model_dir)
    encoder = WorkerEncoder(app, facts, STANDARD_VERSION, settings.query_cache_entries, settings.encoder_silence_seconds)
    stack.callback(encoder.close)
    return encoder


def _index(settings: Settings, model: ModelVersion) -> VectorIndex:
    if settings.qdrant_url:
        return QdrantIndex(settings.qdrant_url, model.version, model.dimension)
    folder = settings.data_dir / "index" / model.version
    return EdgeIndex.open(folder, model.version, model.dimension, optimise_points=settings.index_optimise_points)


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
