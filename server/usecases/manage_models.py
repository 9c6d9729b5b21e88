"""Which model answers: list, compare, activate and delete models."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelState, ModelVersion, StoredModel
from server.domain.search import Query
from server.jobs import RemoveIndex
from server.ports import Database, Ports
from server.usecases.live_models import live_models
from server.usecases.search_compounds import search_compounds

# Compounds that an index may still lack when it is activated: imports under way, which will be indexed in a moment.
MOST_MISSING = 1_000
PATIENCE_SECONDS, POLL_SECONDS = 5.0, 0.1
GRACE_SECONDS = 5.0
MAX_SAMPLES = 100
# Enough to see a difference, few enough to read.
SAMPLES = 20
# Entries forgotten per transaction.
FORGET_BATCH = 20_000
MAX_TEXT_CHARACTERS = 20_000


@dataclass(frozen=True)
class Comparison:
    """What two models answer to one query: compounds as (library, InChIKey), best first."""

    text: str
    former: Sequence[tuple[str, str]]
    present: Sequence[tuple[str, str]]

    @property
    def overlap(self) -> float:
        """Share of hits that both answers hold; 1 for two empty ones."""
        both, most = set(self.former) & set(self.present), max(len(self.former), len(self.present))
        return len(both) / most if most else 1.0


def settle_serving(configured: ModelVersion, path: str, readable: Callable[[StoredModel], bool], database: Database) -> StoredModel:
    """The model that answers: the one the database names, or, in a database without any, the configured one.

    A serving model whose checkpoint is not `readable` any more cannot answer: the configured one takes its place, and the sweep fills its index.
    """
    with database.transaction() as transaction:
        stored = {model.version: model for model in transaction.models.lock()}
        serving = next((model for model in stored.values() if model.state is ModelState.SERVING), None)
        if serving is not None and serving.version == configured.version and serving.model != configured:
            # Registered by a release that noted less of a model.
            serving = replace(serving, model=configured)
            transaction.models.put(serving)
        if serving is not None and (serving.version == configured.version or readable(serving)):
            return serving
        if serving is not None:
            transaction.models.put(replace(serving, state=ModelState.DELETING))
        adopted = stored.get(configured.version) or StoredModel(configured, ModelState.SERVING)
        transaction.models.put(replace(adopted, model=configured, state=ModelState.SERVING, path=path, end_time=datetime.now(UTC)))
        return transaction.models.get(configured.version)


def list_models(ports: Ports) -> list[tuple[StoredModel, int]]:
    """Models whose indexes are kept up to date, the serving one first, with the number of their compounds."""
    return [(model, ports.models.index(model.version).count()) for model in live_models(ports)]


def get_model(version: str, ports: Ports) -> tuple[StoredModel, int]:
    """An empty version means the one that answers. Raises MODEL_NOT_FOUND."""
    with ports.database.reading() as transaction:
        model = transaction.models.get(version or ports.models.serving())
    if not model.state.live:
        raise AtomasError(Reason.MODEL_NOT_FOUND, f"The index of model {version} has been removed.", model=version)
    return model, ports.models.index(model.version).count()


def activate_model(version: str, ports: Ports) -> StoredModel:
    """Lets a model answer from now on; the former one is kept and can be activated again.

    Raises MODEL_NOT_FOUND, MODEL_NOT_READY for an index that is not complete, ENCODER_UNAVAILABLE where nobody can encode with the model.
    """
    with ports.database.reading() as transaction:
        stored = transaction.models.get(version)
    if stored.state is ModelState.SERVING:
        return stored
    _require_ready(stored)
    # Whoever cannot encode finds out now, while the former model answers.
    with_model = ports.with_model(version)
    with_model.encoder.encode_texts(["water"])
    with_model.encoder.encode_molecules(["O"])
    _require_complete(version, ports)
    with ports.database.transaction() as transaction:
        models = {model.version: model for model in transaction.models.lock()}
        _require_ready(models[version])
        for former in models.values():
            if former.state is ModelState.SERVING and former.version != version:
                transaction.models.put(replace(former, state=ModelState.RETIRED))
        transaction.models.put(replace(models[version], state=ModelState.SERVING))
        stored = transaction.models.get(version)
    ports.models.refresh()
    return stored


def compare_models(version: str, texts: Sequence[str], limit: int, ports: Ports) -> list[Comparison]:
    """What the serving model answers and what the other one would; names of stored compounds are asked where no texts are given.

    Raises MODEL_NOT_FOUND, MODEL_NOT_READY, TOO_MANY_ITEMS, and what a search raises.
    """
    if len(texts) > MAX_SAMPLES:
        raise AtomasError(Reason.TOO_MANY_ITEMS, f"{len(texts)} texts in one call; send at most {MAX_SAMPLES}.")
    with ports.database.reading() as transaction:
        stored = transaction.models.get(version)
    if stored.state is not ModelState.SERVING:
        _require_ready(stored)
    former, present = ports.with_model(ports.models.serving()), ports.with_model(version)
    return [Comparison(text, _answer(text, limit, former), _answer(text, limit, present)) for text in texts or _sample_texts(ports)]


def delete_model(version: str, ports: Ports) -> None:
    """Hides a model at once; its index is removed by a job. Raises MODEL_NOT_FOUND, MODEL_NOT_READY for the model that answers."""
    with ports.database.transaction() as transaction:
        models = {model.version: model for model in transaction.models.lock()}
        stored = models.get(version)
        if stored is None or not stored.state.live:
            raise AtomasError(Reason.MODEL_NOT_FOUND, f"There is no model {version!r}.", model=version)
        if stored.state is ModelState.SERVING:
            raise AtomasError(Reason.MODEL_NOT_READY, f"Model {version} answers searches. Activate another one first.", model=version)
        transaction.models.put(replace(stored, state=ModelState.DELETING))
    ports.models.refresh()
    ports.queue.send(RemoveIndex(version))


def remove_index(version: str, ports: Ports) -> None:
    """Second half of a deletion: the index, then what the database says of it. Does nothing to a model that lives."""
    with ports.database.reading() as transaction:
        stored = transaction.models.get(version)
    if stored.state is not ModelState.DELETING:
        return
    # Calls of other servers that began while it answered may still be reading.
    age = datetime.now(UTC) - (stored.update_time or datetime.now(UTC))
    time.sleep(max(0.0, GRACE_SECONDS - age.total_seconds()))
    ports.models.discard_index(version)
    after: int | None = 0
    while after is not None:
        with ports.database.transaction() as transaction:
            after = transaction.models.forget_entries(version, after, FORGET_BATCH)
    with ports.database.transaction() as transaction:
        stored = next(model for model in transaction.models.lock() if model.version == version)
        if stored.state is ModelState.DELETING:
            transaction.models.put(replace(stored, state=ModelState.DELETED))


def checkpoint_folder(path: str) -> Path:
    """Raises INVALID_ARGUMENT unless servers and workers will understand the path alike."""
    folder = Path(path)
    if not folder.is_absolute() or "\0" in path:
        raise AtomasError(
            Reason.INVALID_ARGUMENT, f"Write the folder of the checkpoint in full, not as {path!r}: servers and workers read it."
        )
    return folder


def _require_ready(stored: StoredModel) -> None:
    if stored.state is ModelState.FILLING:
        raise AtomasError(Reason.MODEL_NOT_READY, f"The index of model {stored.version} is still being filled.", model=stored.version)
    if not stored.state.live:
        raise AtomasError(Reason.MODEL_NOT_FOUND, f"The index of model {stored.version} has been removed.", model=stored.version)


def _require_complete(version: str, ports: Ports) -> None:
    """Waits a little until the index holds whatever the serving one holds: what is imported reaches one after the other."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        with ports.database.reading() as transaction:
            missing = transaction.compounds.unindexed(version, MOST_MISSING + 1)
            expected = set(transaction.compounds.unindexed(ports.models.serving(), MOST_MISSING + 1))
        if len(missing) > MOST_MISSING:
            raise AtomasError(
                Reason.MODEL_NOT_READY,
                f"The index of model {version} lacks more than {MOST_MISSING:,} compounds. Wait until they are indexed.",
                model=version,
            )
        if expected.issuperset(missing) or time.monotonic() > end:
            return
        time.sleep(POLL_SECONDS)


def _answer(text: str, limit: int, ports: Ports) -> list[tuple[str, str]]:
    page = search_compounds(Query(library=None, text=text, limit=limit), "", ports, max_text_characters=MAX_TEXT_CHARACTERS)
    return [(hit.compound.library, hit.compound.inchikey) for hit in page.hits]


def _sample_texts(ports: Ports) -> list[str]:
    """Names of compounds from all over the libraries: InChIKeys are hashes, so their letters are a fair draw."""
    names: dict[str, None] = {}
    with ports.database.reading() as transaction:
        libraries = transaction.libraries.page("", MAX_SAMPLES)
        for letter in "ADGJMPRTWY":
            for library in libraries:
                names |= {found.display_name: None for found in transaction.compounds.page(library.id, letter, 2) if found.display_name}
    if not names:
        raise AtomasError(Reason.EMPTY_QUERY, "No compound here has a name to ask for: give texts to compare by.")
    return list(names)[:SAMPLES]
