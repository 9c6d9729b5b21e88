"""One worker process: model and chemistry first, then work; a pool of threads, because torch does not survive a fork."""

import logging
from collections.abc import Sequence

from celery import signals

from server import bootstrap
from server.jobs import EncodeItems
from server.observability.process import observed_process
from server.settings import Settings
from server.usecases.take_stock import Stock
from workers.app import register

# Enough concurrent questions to fill a forward pass; jobs overlap their encoding with their writing.
_QUESTIONS, _JOBS = 16, 2


def run_worker(settings: Settings, queues: Sequence[str]) -> int:
    """Works until it is told to stop, finishing what has begun; returns the exit code. Raises as `bootstrap.worker`."""
    app = bootstrap.broker(settings)
    signals.setup_logging.connect(_configure_logging)
    with (
        bootstrap.worker(settings, queues, app) as ports,
        observed_process(settings, f"atomas-worker-{queues[0]}", lambda: Stock(ports.models.serving())),
    ):
        register(app, ports, settings.job_attempts)

        def ready(**_: object) -> None:
            print(f"Atomas worker takes {', '.join(queues)}, model {ports.encoder.model.version}.", flush=True)

        signals.worker_ready.connect(ready)
        process = app.Worker(
            pool="threads",
            concurrency=settings.worker_threads or sum(_QUESTIONS if name == EncodeItems.queue else _JOBS for name in queues),
            queues=list(queues),
            quiet=True,
            # Workers know nothing of each other: what they share is the database.
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        process.start()
        return int(process.exitcode or 0)


def _configure_logging(**_: object) -> None:
    """Celery's records go where all others do; about tasks the jobs' own say more."""
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
