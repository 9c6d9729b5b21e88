"""The message broker as servers and workers see it: one Celery application, JSON only, late acknowledgement."""

from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from server.domain.errors import AtomasError, Reason
from server.jobs import QUEUES

# What sending raises when the broker is away, full, or refuses the password.
BROKER_ERRORS: tuple[type[Exception], ...] = (OperationalError, OSError, AMQPError, RedisError)

_REDIS, _RABBITMQ = ("redis", "rediss"), ("amqp", "amqps")
CONNECT_SECONDS = 2.0
HEARTBEAT_SECONDS = 20
# Sending tries a second connection, for a broker that was restarted, and no third: callers wait, and the sweep will send.
PUBLISH_RETRIES = {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


def celery_app(url: str, visibility_seconds: int) -> Celery:
    """The application of one process; it connects when first used. Raises INVALID_ARGUMENT for a URL of another kind of broker.

    With Redis a job that its worker has not finished within `visibility_seconds` is given to another one; RabbitMQ notices at once that a
    worker is gone.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _REDIS + _RABBITMQ:
        raise AtomasError(
            Reason.INVALID_ARGUMENT,
            f"{address(url)!r} is no address of a broker: set ATOMAS_BROKER_URL to redis://HOST:6379/0 or amqp://USER:PASSWORD@HOST:5672/.",
        )
    options: dict[str, Any] = {**PUBLISH_RETRIES}
    if scheme in _REDIS:
        options |= {"visibility_timeout": visibility_seconds, "socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}
    else:
        # Without it the first message after RabbitMQ was restarted would vanish in the old connection.
        options["confirm_publish"] = True
    app = Celery("atomas", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        # Jobs leave their results in the database; answers of the encoder have a queue of their own.
        task_ignore_result=True,
        task_queues=[Queue(name, durable=True) for name in QUEUES],
        task_create_missing_queues=False,
        # A job is done when it is done, not when it was taken; a worker takes no more than it works on.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options=options,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        # Workers never give up: a broker may be away for longer than anybody foresaw.
        broker_connection_max_retries=None,
        broker_heartbeat=HEARTBEAT_SECONDS,
        task_publish_retry_policy=PUBLISH_RETRIES,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app


def address(url: str) -> str:
    """The URL without its password, for people."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
