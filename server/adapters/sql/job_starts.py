"""Which jobs were begun and not ended, in SQL: how a job is known that kills whoever does it."""

from datetime import timedelta

from sqlalchemy import delete, func, select, update

from server.adapters.sql.session import Session
from server.adapters.sql.tables import job_starts


class SqlJobStarts:
    """The `JobStarts` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begin(self, job: str, start: str, silent_seconds: float) -> int:
        session = self._session
        session.write(session.insert(job_starts).values(job=job, start=start, beat_time=session.now))
        former = (job_starts.c.job == job) & (job_starts.c.start != start)
        dead = former & (job_starts.c.beat_time <= session.now - timedelta(seconds=silent_seconds))
        return session.connection.scalar(select(func.count()).select_from(job_starts).where(dead)) or 0

    def beat(self, job: str, start: str) -> None:
        chosen = (job_starts.c.job == job) & (job_starts.c.start == start)
        self._session.write(update(job_starts).where(chosen).values(beat_time=self._session.now))

    def end(self, job: str, start: str | None = None) -> None:
        chosen = job_starts.c.job == job
        self._session.write(delete(job_starts).where(chosen if start is None else chosen & (job_starts.c.start == start)))

    def forget(self, older_than_seconds: float) -> None:
        before = self._session.now - timedelta(seconds=older_than_seconds)
        self._session.write(delete(job_starts).where(job_starts.c.beat_time <= before))
