"""Fill a second index with the vectors of another model, while searches and imports go on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelState, StoredModel
from server.jobs import FillIndex, IndexCompounds
from server.ports import Ports
from server.usecases.manage_models import checkpoint_folder, delete_model

# Compounds of one indexing job: long enough to fill forward passes, short enough that imports' jobs get their turn in between.
FILL_BATCH = 256
# Jobs sent at a time; the next step queues behind them, so a fill never floods the queue.
BATCHES_PER_STEP = 8
# When next to nothing is left, the jobs of other workers are waited for; now and then what is left is sent again.
SETTLING_SECONDS = 0.25
LOOKS_BEFORE_SENDING = 40
# A fill of which nothing was heard for so long has lost a job, and is taken up again.
STALL_SECONDS = 30.0
_PREFIX = "reindex-"


@dataclass(frozen=True)
class Fill:
    """A fill as the long-running operation that callers follow."""

    model: StoredModel
    compound_count: int

    @property
    def id(self) -> str:
        return _PREFIX + self.model.version

    @property
    def cancelled(self) -> bool:
        return self.model.end_time is None and not self.model.state.live

    @property
    def done(self) -> bool:
        return self.cancelled or self.model.end_time is not None

    @property
    def indexed_count(self) -> int:
        return self.compound_count if self.model.end_time else min(self.model.filled, self.compound_count)

    def time_left(self, now: datetime) -> timedelta | None:
        """At the pace so far; None before there is any."""
        if self.done or not self.model.filled or self.model.create_time is None:
            return None
        return (now - self.model.create_time) * ((self.compound_count - self.indexed_count) / self.model.filled)


def start_reindex(path: str, ports: Ports) -> Fill:
    """Begins to fill the index of a checkpoint's model, or returns the fill that is under way or done.

    Raises INVALID_ARGUMENT where there is no checkpoint, MODEL_NOT_READY while the same model is being deleted, DISK_FULL.
    """
    folder = checkpoint_folder(path)
    found = ports.models.read_checkpoint(folder)
    ports.storage.require_free_space()
    with ports.database.transaction() as transaction:
        known = {model.version: model for model in transaction.models.lock()}.get(found.version)
        if known is not None and known.state is ModelState.DELETING:
            raise AtomasError(Reason.MODEL_NOT_READY, f"The index of model {found.version} is being removed. Try again in a moment.")
        if known is None or not known.state.live:
            fill = (known.fill if known else 0) + 1
            transaction.models.put(StoredModel(found, ModelState.FILLING, str(folder), fill))
    stored = _stored(found.version, ports)
    if stored.state is ModelState.FILLING:
        ports.queue.send(FillIndex(stored.version, stored.fill, 0))
    return _fill_of(stored, ports)


def is_reindex(operation_id: str) -> bool:
    """Whether the id is of a fill, not of an import."""
    return operation_id.startswith(_PREFIX)


def get_reindex(operation_id: str, ports: Ports) -> Fill:
    """Raises OPERATION_NOT_FOUND."""
    try:
        stored = _stored(operation_id.removeprefix(_PREFIX), ports)
    except AtomasError as error:
        if error.reason is not Reason.MODEL_NOT_FOUND:
            raise
        raise AtomasError(Reason.OPERATION_NOT_FOUND, f"There is no operation {operation_id!r}.") from None
    return _fill_of(stored, ports)


def running_reindexes(ports: Ports) -> list[Fill]:
    """Fills under way."""
    with ports.database.reading() as transaction:
        filling = [model for model in transaction.models.all() if model.state is ModelState.FILLING]
    return [_fill_of(model, ports) for model in filling]


def cancel_reindex(operation_id: str, ports: Ports) -> Fill:
    """Stops a fill and removes what it made; one that has ended stays as it is. Raises OPERATION_NOT_FOUND."""
    fill = get_reindex(operation_id, ports)
    if not fill.done:
        delete_model(fill.model.version, ports)
    return get_reindex(operation_id, ports)


def fill_index(job: FillIndex, ports: Ports) -> None:
    """Sends the next jobs of a fill; once the index lacks nothing but what is just being imported, it is ready."""
    step = FILL_BATCH * BATCHES_PER_STEP
    with ports.database.reading() as transaction:
        stored = transaction.models.get(job.model)
        if stored.state is not ModelState.FILLING or stored.fill != job.fill:
            return
        after = (job.after[0], job.after[1]) if job.after else None
        found = transaction.compounds.unindexed(job.model, step, after)
    # New compounds come at the end: a walk that went on until nothing is found would not end while an import does.
    last_step = len(found) < step
    settling = job.walk > 0 and after is None and last_step
    if settling and _is_complete(job, found, ports):
        _finish(stored, ports)
        return
    if not settling or job.walk % LOOKS_BEFORE_SENDING == 0:
        for library, inchikeys in _batches(found):
            ports.queue.send(IndexCompounds(library, inchikeys, job.model))
    if settling:
        # Other workers are at it.
        time.sleep(SETTLING_SECONDS)
    seen = found[-1] if settling else ()
    ports.queue.send(replace(job, walk=job.walk + 1, after=(), seen=seen) if last_step else replace(job, after=found[-1]))


def _is_complete(job: FillIndex, found: Sequence[tuple[str, str]], ports: Ports) -> bool:
    """Whether all that is missing is just being imported: the serving index lacks it too, or it is newer than all that the former walk missed.

    Imports go on, so there may never be a moment in which nothing is missing.
    """
    with ports.database.reading() as transaction:
        limit = FILL_BATCH * BATCHES_PER_STEP
        missing = set(found).difference(transaction.compounds.unindexed(ports.models.serving(), limit))
        if not missing or not job.seen:
            return not missing
        return missing.issubset(transaction.compounds.unindexed(job.model, limit, (job.seen[0], job.seen[1])))


def resume_reindexes(ports: Ports) -> int:
    """Takes up fills that have lost a job; returns how many."""
    now, resumed = datetime.now(UTC), 0
    for fill in running_reindexes(ports):
        if fill.model.update_time is None or now - fill.model.update_time < timedelta(seconds=STALL_SECONDS):
            continue
        with ports.database.transaction() as transaction:
            stored = next(model for model in transaction.models.lock() if model.version == fill.model.version)
            if stored != fill.model:
                # Another server was faster, or a job has come back.
                continue
            transaction.models.put(replace(stored, fill=stored.fill + 1))
        ports.queue.send(FillIndex(stored.version, stored.fill + 1, 0))
        resumed += 1
    return resumed


def _finish(stored: StoredModel, ports: Ports) -> None:
    with ports.database.transaction() as transaction:
        now = next(model for model in transaction.models.lock() if model.version == stored.version)
        if now.state is ModelState.FILLING and now.fill == stored.fill:
            transaction.models.put(replace(now, state=ModelState.READY, end_time=datetime.now(UTC)))
    ports.models.refresh()


def _stored(version: str, ports: Ports) -> StoredModel:
    with ports.database.reading() as transaction:
        return transaction.models.get(version)


def _fill_of(stored: StoredModel, ports: Ports) -> Fill:
    with ports.database.reading() as transaction:
        return Fill(stored, sum(library.compound_count for library in transaction.libraries.page("", 1_000_000)))


def _batches(found: Sequence[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Up to FILL_BATCH InChIKeys of one library at a time."""
    by_library: dict[str, list[str]] = {}
    for library, inchikey in found:
        by_library.setdefault(library, []).append(inchikey)
    return [
        (library, tuple(inchikeys[start : start + FILL_BATCH]))
        for library, inchikeys in by_library.items()
        for start in range(0, len(inchikeys), FILL_BATCH)
    ]
