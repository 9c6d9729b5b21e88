"""What a process shows of itself while it runs: metrics over HTTP, traces to a collector, each only where a setting asks for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, start_http_server

from server.domain.errors import AtomasError, Reason
from server.observability.collectors import MemoryCollector, StockCollector
from server.observability.traces import start_tracing
from server.settings import Settings

if TYPE_CHECKING:
    from server.usecases.take_stock import Stock


@contextmanager
def observed_process(settings: Settings, service: str, take_stock: "Callable[[], Stock] | None" = None) -> Iterator[None]:
    """For as long as the process works; `service` names it in traces. Raises INVALID_ARGUMENT when the address of the metrics cannot be taken."""
    with ExitStack() as stack:
        if settings.otlp_endpoint:
            stack.callback(start_tracing(settings.otlp_endpoint, settings.otlp_ratio, service))
        if settings.metrics_listen:
            for collector in (MemoryCollector(), *([StockCollector(take_stock)] if take_stock else [])):
                REGISTRY.register(collector)
                stack.callback(REGISTRY.unregister, collector)
            stack.callback(_serve_metrics(settings.metrics_listen))
        yield


def _serve_metrics(listen: str) -> Callable[[], None]:
    """Prints the address; returns what stops it."""
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]") or "0.0.0.0")
    except (OSError, ValueError, OverflowError):
        raise AtomasError(
            Reason.INVALID_ARGUMENT,
            f"Cannot serve metrics on {listen}: another program has the port, or the address is not of this machine. "
            "Set ATOMAS_METRICS_LISTEN to a free one, such as 127.0.0.1:9464, or to nothing for no metrics.",
        ) from None
    print(f"Metrics on http://{host}:{server.server_port}/metrics.", flush=True)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
