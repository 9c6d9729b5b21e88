"""The tasks: each hands its payload to a use case; what fails is tried again as its reason deserves."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from celery import Celery

from server.domain.errors import AtomasError, Reason
from server.jobs import EncodeItems, Job, from_payload, to_payload
from server.observability.context import CARRIED, working_for
from server.observability.jobs import job_under_way
from server.ports import Ports
from server.retries import retry_of
from server.usecases.embed_items import answer_question
from server.usecases.track_operations import give_up, run_job

log = structlog.get_logger(__name__)

_ANSWER_RETRIES = {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


def job_task(kind: type[Job], ports: Ports, attempts: int) -> Callable[[Any, Mapping[str, Any], int], None]:
    """The task of one kind of job; `failures` counts those that may have been the job's own fault."""

    def do_job(task: Any, payload: Mapping[str, Any], failures: int) -> None:
        job = from_payload(kind, payload)
        carrier = _carrier(task)
        with job_under_way(job, carrier) as outcome:
            failure = attempt(job, ports)
            outcome.reason = failure.reason if failure else None
        if failure is None:
            return
        retry = retry_of(failure.reason, attempts)
        failures += retry.attempts is not None
        if retry.attempts is not None and failures >= retry.attempts:
            # Should this fail too, the sweep sends the job again, and it is given up then.
            give_up(job, failure.reason, failure.message, ports)
            return
        raise task.retry(args=[payload, failures], headers=carrier, countdown=retry.pause_seconds(task.request.retries + 1))

    return do_job


def attempt(job: Job, ports: Ports) -> AtomasError | None:
    """Does the job; returns what went wrong."""
    try:
        run_job(job, ports)
    except AtomasError as error:
        return error
    except Exception as error:
        log.exception("job failed")
        return AtomasError(Reason.INTERNAL, f"{job.name} failed: {type(error).__name__}. The worker's log has the details.")
    return None


def _carrier(task: Any) -> dict[str, str]:
    """What the message brought along of the call that it was sent for."""
    return {name: str(value) for name in CARRIED if (value := task.request.get(name))}


def encode_task(app: Celery, ports: Ports) -> Callable[[Any, Mapping[str, Any]], None]:
    """The task that answers a server's question in the queue that the server listens to."""

    def encode_items(task: Any, payload: Mapping[str, Any]) -> None:
        question = from_payload(EncodeItems, payload)
        left = question.deadline - time.time()
        if left <= 0:
            return
        with working_for(_carrier(task), EncodeItems.name, kind=question.kind, items=len(question.items)):
            answer = answer_question(question, left, ports)
        with app.producer_pool.acquire(block=True) as producer:
            producer.publish(
                to_payload(answer),
                exchange="",
                routing_key=task.request.reply_to,
                correlation_id=task.request.id,
                serializer="json",
                delivery_mode=1,
                retry=True,
                retry_policy=_ANSWER_RETRIES,
            )

    return encode_items
