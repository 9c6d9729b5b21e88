"""The models of this process: which one answers, and encoders and indexes of every live one, opened when they are first needed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from server.domain.errors import AtomasError, Reason
from server.domain.models import ModelState, ModelVersion, StoredModel
from server.ports import Database, Encoder, VectorIndex

Opened = TypeVar("Opened")

# How long the removal of an index waits for the last call that uses it.
PATIENCE_SECONDS = 60.0

# The model that the present call works with, whatever serves meanwhile; empty outside of calls.
_PINNED: ContextVar[str] = ContextVar("pinned_model", default="")


class Places(Protocol):
    """Where encoders and indexes come from; `bootstrap.py` knows."""

    def open_encoder(self, model: StoredModel) -> Encoder: ...
    def open_index(self, model: ModelVersion) -> VectorIndex: ...
    def discard_index(self, version: str) -> None: ...
    def stored_indexes(self) -> list[str]: ...
    def read_checkpoint(self, path: Path) -> ModelVersion: ...


class LiveModels:
    """The `Models` port: the database decides, `refresh` follows it. Thread-safe."""

    def __init__(self, database: Database, places: Places) -> None:
        """Knows nothing until `refresh`."""
        self._database = database
        self._places = places
        self._stored: dict[str, StoredModel] = {}
        self._serving = ""
        self._encoders: dict[str, Encoder] = {}
        self._indexes: dict[str, VectorIndex] = {}
        # Calls under way, by the model that they work with.
        self._pins: Counter[str] = Counter()
        self._pinning = threading.Condition()
        # One at a time: two models that load together take twice as long. Whoever needs one that is open never waits.
        self._opening = threading.Lock()

    def serving(self) -> str:
        """The version that the present call works with: the pinned one, else the one that answers."""
        return _PINNED.get() or self._serving

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Calls in the block work with one model, whatever is activated or deleted meanwhile."""
        with self._pinning:
            version = self.serving()
            self._pins[version] += 1
        token = _PINNED.set(version)
        try:
            yield
        finally:
            _PINNED.reset(token)
            with self._pinning:
                self._pins[version] -= 1
                self._pinning.notify_all()

    def encoder(self, version: str) -> Encoder:
        """Raises MODEL_NOT_FOUND, ENCODER_UNAVAILABLE where its checkpoint cannot be read."""
        return self._opened(self._encoders, version, self._places.open_encoder)

    def index(self, version: str) -> VectorIndex:
        """Raises MODEL_NOT_FOUND, and what opening an index raises."""
        return self._opened(self._indexes, version, lambda stored: self._places.open_index(stored.model))

    def read_checkpoint(self, path: Path) -> ModelVersion:
        """What a folder holds. Raises INVALID_ARGUMENT where it is no checkpoint."""
        return self._places.read_checkpoint(path)

    def stored_indexes(self) -> list[str]:
        """Versions of every index that takes up room, whether the database knows it or not."""
        return self._places.stored_indexes()

    def discard_index(self, version: str) -> None:
        """Removes an index once no call uses it any more; one that is not there is no error."""
        with self._pinning:
            self._pinning.wait_for(lambda: not self._pins[version], PATIENCE_SECONDS)
        with self._opening:
            index = self._indexes.pop(version, None)
            if index is not None:
                index.close()
            self._places.discard_index(version)

    def refresh(self) -> None:
        """Takes over what the database says; closes what is gone."""
        with self._database.reading() as transaction:
            stored = {model.version: model for model in transaction.models.all()}
        self._stored = stored
        self._serving = next((version for version, model in stored.items() if model.state is ModelState.SERVING), self._serving)
        gone = {version for version in {*self._encoders, *self._indexes} if version in stored and not stored[version].state.live}
        for version in gone:
            if not self._pins[version]:
                self._close(version)

    def follow(self) -> None:
        """As `refresh`; a database that is away changes nothing."""
        with suppress(AtomasError):
            self.refresh()

    def open_ready(self) -> None:
        """Loads the encoders of models that may be activated soon, so that the first query after the switch waits for none."""
        for version, model in list(self._stored.items()):
            if model.state is ModelState.READY:
                with suppress(AtomasError):
                    self.encoder(version)

    def close(self) -> None:
        """Closes whatever was opened."""
        for version in {*self._encoders, *self._indexes}:
            self._close(version)

    def _close(self, version: str) -> None:
        with self._opening:
            index, encoder = self._indexes.pop(version, None), self._encoders.pop(version, None)
        if index is not None:
            index.close()
        close: Callable[[], None] | None = getattr(encoder, "close", None)
        if close is not None:
            close()

    def _opened(self, opened: dict[str, Opened], version: str, open_: Callable[[StoredModel], Opened]) -> Opened:
        found = opened.get(version)
        if found is not None:
            return found
        with self._opening:
            if version not in opened:
                opened[version] = open_(self._known(version))
            return opened[version]

    def _known(self, version: str) -> StoredModel:
        stored = self._stored.get(version)
        if stored is None or not stored.state.live:
            # Registered, or filled again, since the last look.
            with self._database.reading() as transaction:
                self._stored = {model.version: model for model in transaction.models.all()}
        stored = self._stored.get(version)
        if stored is None or not stored.state.live:
            raise AtomasError(Reason.MODEL_NOT_FOUND, f"There is no model {version!r}.", model=version)
        return stored


class _Present:
    """Stands for what the present call works with; it has every method of the port because it has none of its own."""

    def __init__(self, find: Callable[[], object]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)


def present_encoder(models: LiveModels) -> Encoder:
    """The encoder of the model that the present call works with."""
    return cast(Encoder, _Present(lambda: models.encoder(models.serving())))


def present_index(models: LiveModels) -> VectorIndex:
    """The index of the model that the present call works with."""
    return cast(VectorIndex, _Present(lambda: models.index(models.serving())))
