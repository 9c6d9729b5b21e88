"""A second checkpoint on disk, and queries that go on while a service changes models."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atomas import Client
from encoder.checkpoint import save_checkpoint
from tests.encoder_models import sample_features, small_model

QUERIES = ("an alcohol", "a carboxylic acid with a long chain", "steroid", "an amino acid found in plants")


def second_checkpoint(folder: Path) -> str:
    """Writes an untrained model, of other dimensions than the shipped one, so that no vector fits the other's index; returns its version."""
    return save_checkpoint(folder, small_model(), *sample_features())


class Load:
    """Queries from several threads, without a pause: what each model answered, and what failed."""

    def __init__(self, address: str, library: str) -> None:
        self._address, self._library = address, library
        self.failures: list[Exception] = []
        self.answers: dict[tuple[str, str], Counter[tuple[str, ...]]] = {}
        self.count = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def _ask(self) -> None:
        with Client(self._address) as client:
            while not self._stopping.is_set():
                for query in QUERIES:
                    try:
                        found = client.search(text=query, library=self._library, limit=5)
                    except Exception as error:
                        self.failures.append(error)
                        continue
                    hits = tuple(hit.compound.resource_name for hit in found)
                    with self._lock:
                        self.count += 1
                        self.answers.setdefault((found.model.rpartition("/")[2], query), Counter())[hits] += 1

    @contextmanager
    def running(self, threads: int = 3) -> Iterator["Load"]:
        """Asks while the block runs."""
        askers = [threading.Thread(target=self._ask) for _ in range(threads)]
        for asker in askers:
            asker.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for asker in askers:
                asker.join()

    def forget(self) -> None:
        """What was answered so far; failures are not forgotten."""
        with self._lock:
            self.answers.clear()

    def models(self) -> set[str]:
        """Which models have answered so far."""
        with self._lock:
            return {model for model, _ in self.answers}

    def wait_for(self, model: str, patience_seconds: float = 60.0) -> None:
        """Returns when the model has answered."""
        end = time.monotonic() + patience_seconds
        while model not in self.models():
            assert time.monotonic() < end, f"{model} never answered; {self.models()} did"
            time.sleep(0.05)
