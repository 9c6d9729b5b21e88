"""Metrics that are found out when Prometheus asks: work that waits, the model, memory of child processes and of GPUs."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from server.usecases.take_stock import Stock

log = structlog.get_logger(__name__)

# Several that ask at once, or too often, get the same answer.
_FRESH_SECONDS = 5.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


class StockCollector(Collector):
    """The service's stock as gauges. Every server of a fleet tells the same: take the maximum, not the sum."""

    def __init__(self, take: Callable[[], "Stock"]) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._stock: Stock | None = None
        self._taken = -_FRESH_SECONDS

    def describe(self) -> Iterable[Metric]:
        """Nothing: else whoever registers would wait for the stores."""
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() - self._taken >= _FRESH_SECONDS:
                try:
                    self._stock = self._take()
                except Exception:
                    # The other metrics of this process are wanted all the more.
                    log.warning("the stock of work could not be taken", exc_info=True)
                    self._stock = None
                self._taken = time.monotonic()
            stock = self._stock
        if stock is None:
            return
        model = GaugeMetricFamily("atomas_model_serving", "The model that answers, as this process knows it", labels=["version"])
        model.add_metric([stock.model], 1)
        queued = GaugeMetricFamily("atomas_queue_messages", "Messages that wait in a queue", labels=["queue"])
        for queue, count in stock.queued.items():
            queued.add_metric([queue], count)
        waiting = GaugeMetricFamily("atomas_backlog_jobs", "Work left in the database, in jobs", labels=["task"])
        oldest = GaugeMetricFamily("atomas_backlog_oldest_seconds", "Age of the oldest of it", labels=["task"])
        for job, backlog in stock.backlog.items():
            waiting.add_metric([job], backlog.count)
            oldest.add_metric([job], backlog.oldest_seconds)
        yield from (model, queued, waiting, oldest)


class MemoryCollector(Collector):
    """Memory of child processes, and of the GPUs that this process uses."""

    def collect(self) -> Iterator[Metric]:
        children = GaugeMetricFamily("atomas_child_processes_resident_bytes", "Resident memory of chemistry and keeper processes")
        children.add_metric([], sum(_resident_bytes(pid) for pid in _descendants(os.getpid())))
        yield children
        yield from _gpu_memory()


def _gpu_memory() -> Iterator[Metric]:
    # Asking must neither load torch nor set up a GPU that nobody uses.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return
    memory = GaugeMetricFamily("atomas_gpu_memory_bytes", "Memory of a GPU as this process uses it", labels=["device", "kind"])
    for device in range(torch.cuda.device_count()):
        memory.add_metric([str(device), "allocated"], torch.cuda.memory_allocated(device))
        memory.add_metric([str(device), "reserved"], torch.cuda.memory_reserved(device))
        memory.add_metric([str(device), "total"], torch.cuda.get_device_properties(device).total_memory)
    yield memory


def _descendants(pid: int) -> Iterator[int]:
    for children in _PROC.glob(f"{pid}/task/*/children"):
        try:
            found = [int(word) for word in children.read_text().split()]
        except OSError:
            continue
        for child in found:
            yield child
            yield from _descendants(child)


def _resident_bytes(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        # It has just ended.
        return 0
