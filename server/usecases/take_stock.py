"""What a service has before it: the work that waits, and the model that answers."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from server.domain.errors import AtomasError
from server.domain.operations import Backlog
from server.jobs import EmbedCompounds, Generate, ReadChunk
from server.ports import Ports


@dataclass(frozen=True)
class Stock:
    """What could not be found out is missing."""

    # Version of the model that answers.
    model: str
    # Messages that wait, by queue.
    queued: Mapping[str, int] = field(default_factory=dict)
    # Work that the database knows to be left, by the name of its job.
    backlog: Mapping[str, Backlog] = field(default_factory=dict)


def take_stock(ports: Ports) -> Stock:
    """Asks the database and the queue."""
    backlog: dict[str, Backlog] = {}
    with suppress(AtomasError), ports.database.reading() as transaction:
        unread, unindexed = transaction.operations.backlog()
        backlog = {ReadChunk.name: unread, EmbedCompounds.name: unindexed, Generate.name: transaction.generations.backlog()}
    return Stock(ports.models.serving(), ports.queue.depth(), backlog)
