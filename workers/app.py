"""Registers the tasks under the names that servers send."""

from celery import Celery

from server.jobs import JOBS, EncodeItems
from server.ports import Ports
from workers.tasks import encode_task, job_task


def register(app: Celery, ports: Ports, attempts: int) -> None:
    """Every job and the encoder's questions, whatever queues this worker takes."""
    for kind in JOBS:
        # Shared tasks would be registered in every other application of the process too.
        app.task(job_task(kind, ports, attempts), name=kind.name, bind=True, shared=False, max_retries=None)
    # Nobody wants the answer to a question that a dead worker had taken, so it is acknowledged at once.
    app.task(encode_task(app, ports), name=EncodeItems.name, bind=True, shared=False, acks_late=False)
