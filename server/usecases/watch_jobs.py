"""Know a job that kills whoever does it: starts are noted in the database, and whoever works shows signs of life."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from server.domain.errors import AtomasError
from server.jobs import Job, to_payload
from server.ports import Database, Ports
from server.repeating import repeated

BEAT_SECONDS = 5.0
# A worker that has shown no sign of life for so long is dead, or as good as dead.
SILENT_SECONDS = 20.0
# Workers die for other reasons too; three in the middle of the same job do not.
MOST_DEATHS = 3
# Jobs that nobody sends any more are forgotten.
FORGET_SECONDS = 86_400.0
_LONGEST_KEY = 200


@contextmanager
def watched(job: Job, ports: Ports) -> Iterator[bool]:
    """For the block in which the job is done; True when it has killed too many workers to be tried again. Raises DATABASE_UNAVAILABLE."""
    key, start = _key(job), uuid.uuid4().hex
    with ports.database.transaction() as transaction:
        deaths = transaction.job_starts.begin(key, start, SILENT_SECONDS)
    poisonous = deaths >= MOST_DEATHS
    with _signs_of_life(key, start, ports.database):
        try:
            yield poisonous
        except BaseException:
            _end(key, start, ports.database)
            raise
    # What was buried may come again, and must be known then.
    _end(key, start if poisonous else None, ports.database)


def _end(key: str, start: str | None, database: Database) -> None:
    # The job is done; a note that stays is at worst counted as one death.
    with suppress(AtomasError), database.transaction() as transaction:
        transaction.job_starts.end(key, start)


def _signs_of_life(key: str, start: str, database: Database) -> AbstractContextManager[None]:
    def beat() -> None:
        with suppress(AtomasError), database.transaction() as transaction:
            transaction.job_starts.beat(key, start)

    return repeated(beat, BEAT_SECONDS, "signs-of-life")


def _key(job: Job) -> str:
    payload = json.dumps(to_payload(job), separators=(",", ":"))
    if len(payload) > _LONGEST_KEY:
        payload = hashlib.blake2b(payload.encode(), digest_size=20).hexdigest()
    return f"{job.name} {payload}"
