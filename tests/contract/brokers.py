"""Brokers to run one suite over, and workers on threads of the test's own process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import TestWorkController, start_worker

from deploy.services import LocalService, RabbitMq, Redis
from server.adapters.broker import celery_app
from server.jobs import QUEUES
from tests.services import running_service

NOTICE_SECONDS = 0.05

BROKERS: dict[str, type[LocalService]] = {"redis": Redis, "rabbitmq": RabbitMq}


@pytest.fixture(scope="session")
def redis_server() -> Iterator[LocalService]:
    with running_service(Redis) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[LocalService]:
    with running_service(RabbitMq) as server:
        yield server


def new_app(broker: LocalService) -> Celery:
    """An application as a process of its own would have it, with queues that hold nothing of former tests."""
    app = celery_app(broker.url, 600)
    with app.connection_for_write() as connection, connection.channel() as channel:
        for queue in app.conf.task_queues:
            queue(channel).declare()
            queue(channel).purge()
    return app


class PromptWorker(TestWorkController):  # type: ignore[misc]  # Celery has no types
    """Looks again and again whether it shall stop. Others sleep until the next message or heartbeat: seconds at the end of each test."""

    def on_consumer_ready(self, consumer: Any) -> None:
        consumer.hub.call_repeatedly(NOTICE_SECONDS, lambda: None)
        super().on_consumer_ready(consumer)


@contextmanager
def running_worker(app: Celery, register: Callable[[Celery], None], threads: int = 8) -> Iterator[None]:
    """A worker of every queue, in threads."""
    register(app)
    with start_worker(
        app,
        pool="threads",
        concurrency=threads,
        queues=list(QUEUES),
        perform_ping_check=False,
        loglevel="ERROR",
        shutdown_timeout=30,
        WorkController=PromptWorker,
    ):
        yield
