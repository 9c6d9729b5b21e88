"""Builds servers and workers from the settings: the only file that knows every adapter."""

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from encoder.manifest import ModelFacts
from encoder.molecules import STANDARD_VERSION, Limits
from server.adapters.chemistry_pool import ChemistryPool
from server.adapters.disk_space import DiskSpace, NoLocalStorage
from server.adapters.folder_lock import FolderLock
from server.adapters.keeper_process import KeeperProcess
from server.adapters.live_models import LiveModels, present_encoder, present_index
from server.adapters.local_queue import LocalQueue
from server.adapters.model_places import ModelPlaces, facts_of, find_checkpoint, version_of
from server.adapters.observed import ObservedKeeper, observe_batch, observed_encoder
from server.adapters.password_hashes import PasswordHashes
from server.adapters.rdkit_structures import Keeper, RdkitStructures
from server.adapters.sql.migrate import migrate
from server.adapters.sql.transaction import SqlDatabase
from server.adapters.structure_absence import NoStructures
from server.domain.errors import AtomasError, Reason
from server.domain.models import StoredModel
from server.jobs import EmbedCompounds, EncodeItems, Generate
from server.observability.metrics import KEEPER_SECONDS
from server.ports import Database, Encoder, Generator, Ports, StructureIndex, Trust
from server.repeating import repeated
from server.settings import Settings
from server.usecases.manage_models import settle_serving
from server.usecases.track_operations import give_up, run_job, sweep

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)
THREAD_SWITCH_SECONDS = 0.0005
# Objects made before Python looks for garbage in cycles. A search makes thousands that have none: at the default of 700 every query
# pays for passes over all that torch and the schema keep, and a call of many queries pays twice for its own answers.
GARBAGE_THRESHOLDS = (50_000, 20, 100)
# How soon every process of a fleet notices that another model answers.
FOLLOW_SECONDS = 0.5


@contextmanager
def service(settings: Settings) -> Iterator[Ports]:
    """What a server works with while the block runs; everything is closed in order at its end.

    Raises INVALID_ARGUMENT, DATA_DIR_IN_USE, SCHEMA_MISMATCH, DATABASE_UNAVAILABLE, INDEX_UNAVAILABLE, and encoder.manifest.CheckpointError.
    """
    # A query passes through four threads. At Python's default of 5 ms each handover to one may wait as long for another that computes.
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    with ExitStack() as stack:
        ports = _fleet_server(settings, stack) if settings.broker_url else _whole_service(settings, stack)
        # What is here now stays: no later pass looks at it.
        gc.freeze()
        stack.callback(gc.unfreeze)
        yield ports


@contextmanager
def worker(settings: Settings, queues: Sequence[str], app: "Celery") -> Iterator[Ports]:
    """What a worker of these queues works with: models are loaded and processes are warm when the block begins. Raises as `service` does."""
    with ExitStack() as stack:
        database = _database(settings, stack)
        chemistry = _chemistry(settings, stack)
        if "import" in queues:
            chemistry.warm()
        encodes = {EmbedCompounds.queue, EncodeItems.queue, Generate.queue} & set(queues)
        models = _models(settings, database, _encoder_here(settings) if encodes else _encoder_in_workers(settings, app), stack)
        if encodes:
            encoder = models.encoder(models.serving())
            encoder.encode_texts(["water"])
            encoder.encode_molecules(["O"])
        if EncodeItems.queue in queues:
            stack.enter_context(repeated(models.open_ready, FOLLOW_SECONDS, "models", at_once=True))
        ports = _fleet_ports(settings, database, chemistry, models, app, stack)
        yield replace(ports, generator=_generator(settings, database)) if Generate.queue in queues else ports


def trust(settings: Settings) -> Trust:
    """By what callers are known. Raises INVALID_ARGUMENT for a key set that cannot be read, or may not be fetched."""
    tokens = None
    if settings.jwt_jwks_file is not None or settings.jwt_jwks_url:
        from server.adapters.json_web_tokens import JsonWebTokens
        from server.adapters.key_sets import KeySet, KeySetFile, KeySetUrl

        if settings.jwt_jwks_file is not None and settings.jwt_jwks_url:
            raise AtomasError(
                Reason.INVALID_ARGUMENT, "Keys of tokens come from one place: set ATOMAS_JWT_JWKS_FILE or ATOMAS_JWT_JWKS_URL."
            )
        keys: KeySet
        if settings.jwt_jwks_file is not None:
            keys = KeySetFile(settings.jwt_jwks_file)
        else:
            keys = KeySetUrl(settings.jwt_jwks_url, settings.jwt_jwks_refresh_seconds, settings.jwt_jwks_ca_certificate)
        tokens = JsonWebTokens(keys, settings.jwt_audience, settings.jwt_issuer, settings.jwt_scope_claim)
    return Trust(settings.auth_required, PasswordHashes(), tokens)


@contextmanager
def metadata_database(settings: Settings) -> Iterator[Database]:
    """The database alone, also beside a running service. Raises SCHEMA_MISMATCH, DATABASE_UNAVAILABLE."""
    with ExitStack() as stack:
        if not settings.database_url:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            migrate(settings.sql_url)
        yield _database(settings, stack)


@contextmanager
def maintenance(settings: Settings) -> Iterator[Ports]:
    """What commands work with beside a running fleet, or instead of an embedded service that is stopped. Raises as `service` does."""
    with ExitStack() as stack:
        if settings.broker_url:
            app = broker(settings)
            database = _database(settings, stack)
            models = _models(settings, database, _encoder_in_workers(settings, app), stack)
            yield _fleet_ports(settings, database, _chemistry(settings, stack), models, app, stack)
            return
        stack.callback(FolderLock(settings.data_dir).close)
        database = _database(settings, stack)
        models = _models(settings, database, _encoder_here(settings), stack)
        storage = DiskSpace(settings.data_dir, settings.min_free_disk_bytes)
        # Nobody works on this queue: what it is sent the database knows.
        queue = LocalQueue(settings.job_attempts)
        chemistry = _chemistry(settings, stack)
        structures = _structures(settings, chemistry, stack)
        yield Ports(database, present_index(models), present_encoder(models), chemistry, queue, storage, models, structures)


def use_configured_model(settings: Settings) -> str:
    """Lets the configured model answer whatever the database says; returns its version. Raises as `service` does."""
    with ExitStack() as stack:
        if not settings.broker_url:
            stack.callback(FolderLock(settings.data_dir).close)
        configured = version_of(ModelFacts.read(settings.model_dir))
        return settle_serving(configured, _configured_path(settings), lambda model: False, _database(settings, stack)).version


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
    # It reads its log while the model is loaded.
    structures = _structures(settings, chemistry, stack)
    models = _models(settings, database, _encoder_here(settings), stack)
    models.encoder(models.serving())
    models.index(models.serving())
    queue = LocalQueue(settings.job_attempts)
    storage = DiskSpace(settings.data_dir, settings.min_free_disk_bytes)
    generator = _generator(settings, database)
    ports = Ports(database, present_index(models), present_encoder(models), chemistry, queue, storage, models, structures, generator)
    queue.start(lambda job: run_job(job, ports), lambda job, reason, message: give_up(job, reason, message, ports))
    stack.callback(queue.close)
    stack.enter_context(_sweeping(ports, settings))
    return ports


def _fleet_server(settings: Settings, stack: ExitStack) -> Ports:
    app = broker(settings)
    database = _database(settings, stack)
    chemistry = _chemistry(settings, stack)
    chemistry.warm()
    models = _models(settings, database, _encoder_in_workers(settings, app), stack)
    ports = _fleet_ports(settings, database, chemistry, models, app, stack)
    stack.enter_context(_sweeping(ports, settings))
    return ports


def _sweeping(ports: Ports, settings: Settings) -> AbstractContextManager[None]:
    return repeated(lambda: sweep(ports, settings.import_idle_hours * 3600), settings.sweep_seconds, "sweep", at_once=True)


def _fleet_ports(
    settings: Settings, database: SqlDatabase, chemistry: ChemistryPool, models: LiveModels, app: "Celery", stack: ExitStack
) -> Ports:
    from server.adapters.celery_queue import CeleryQueue

    models.index(models.serving())
    queue = CeleryQueue(app, settings.job_resend_seconds)
    stack.callback(app.close)
    structures = _structures(settings, chemistry, stack)
    return Ports(database, present_index(models), present_encoder(models), chemistry, queue, NoLocalStorage(), models, structures)


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


def _models(settings: Settings, database: SqlDatabase, encode: Callable[[StoredModel], Encoder], stack: ExitStack) -> LiveModels:
    """Follows the database, which names the model that answers; a new database is told the configured one."""
    places = ModelPlaces(settings, encode)
    configured = version_of(ModelFacts.read(settings.model_dir))
    # A fleet's model is given up by a person: `python -m server use-model`.
    readable = partial(_readable, settings) if not settings.broker_url else _always
    serving = settle_serving(configured, _configured_path(settings), readable, database)
    if serving.version != configured.version:
        log.warning("the database names another model than the settings", serving=serving.version, configured=configured.version)
    models = LiveModels(database, places)
    models.refresh()
    stack.callback(models.close)
    stack.enter_context(repeated(models.follow, FOLLOW_SECONDS, "models", at_once=True))
    return models


def _structures(settings: Settings, chemistry: ChemistryPool, stack: ExitStack) -> StructureIndex:
    """The keeper of a fleet, the database's cartridge, or a keeper of our own beside the vector index."""
    keeper: Keeper
    if not settings.structures_url and (cartridge := _cartridge(settings, chemistry)):
        stack.callback(cartridge.close)
        return cartridge
    if settings.structures_url:
        from server.adapters.structure_server import RemoteKeeper

        keeper = RemoteKeeper(settings.structures_url)
    elif settings.broker_url:
        return NoStructures()
    else:
        keeper = _keeper(settings)
    structures = RdkitStructures(ObservedKeeper(keeper), settings.pattern_seconds)
    stack.callback(structures.close)
    return structures


def _cartridge(settings: Settings, chemistry: ChemistryPool) -> StructureIndex | None:
    if not (settings.structure_cartridge and settings.database_url):
        return None
    from server.adapters.cartridge_structures import open_cartridge

    return open_cartridge(settings.sql_url, settings.pattern_seconds, chemistry)


def _keeper(settings: Settings) -> KeeperProcess:
    return KeeperProcess(settings.data_dir / "structures" / "structures.log", settings.structure_live_molecules)


@contextmanager
def structure_server(settings: Settings) -> Iterator[int]:
    """The structure keeper of a fleet, serving while the block runs; gives the port. Raises INVALID_ARGUMENT, DATA_DIR_IN_USE, INDEX_UNAVAILABLE."""
    from server.adapters.structure_server import StructureServer

    with ExitStack() as stack:
        stack.callback(FolderLock(settings.data_dir / "structures").close)
        keeper = ObservedKeeper(_keeper(settings), KEEPER_SECONDS)
        stack.callback(keeper.close)
        server = StructureServer(keeper, settings.structures_listen)
        server.start()
        stack.callback(server.stop, settings.shutdown_seconds)
        yield server.port


def _configured_path(settings: Settings) -> str:
    return str(settings.model_dir.resolve()) if settings.model_dir else ""


def _readable(settings: Settings, model: StoredModel) -> bool:
    try:
        find_checkpoint(model, settings)
    except AtomasError:
        log.warning("the checkpoint of the model that answered is gone; the configured one takes its place", model=model.version)
        return False
    return True


def _always(model: StoredModel) -> bool:
    return True


def _encoder_here(settings: Settings) -> Callable[[StoredModel], Encoder]:
    def load(stored: StoredModel) -> Encoder:
        # Whoever has no model in this process must not pay for torch.
        from encoder.batching import TokenBudgetBatcher
        from encoder.inference import Encoder as Model
        from server.adapters.local_encoder import LocalEncoder

        model = Model.load(find_checkpoint(stored, settings), threads=settings.encoder_threads or os.cpu_count() or 1)
        batcher = TokenBudgetBatcher(model, settings.encoder_batch_tokens, settings.encoder_batch_wait_seconds, observe=observe_batch)
        return observed_encoder(LocalEncoder(model, batcher, STANDARD_VERSION), "local")

    return load


def _generator(settings: Settings, database: SqlDatabase) -> Generator:
    """Loads a decoder when it is first asked for."""

    def find(version: str) -> Path:
        with database.reading() as transaction:
            return find_checkpoint(transaction.models.get(version), settings)

    # Whoever generates nothing must not pay for torch.
    from server.adapters.local_generator import LocalGenerator

    return LocalGenerator(find)


def _encoder_in_workers(settings: Settings, app: "Celery") -> Callable[[StoredModel], Encoder]:
    def ask(stored: StoredModel) -> Encoder:
        from server.adapters.worker_encoder import WorkerEncoder

        facts, remembered = facts_of(stored.model), settings.query_cache_entries
        return observed_encoder(WorkerEncoder(app, facts, STANDARD_VERSION, remembered, settings.encoder_silence_seconds), "worker")

    return ask
