"""Generations and what they found, in SQL."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, or_, select, update

from server.adapters.sql.session import Session
from server.adapters.sql.tables import generation_findings, generations
from server.domain.errors import AtomasError, Reason
from server.domain.generation import (
    Candidate,
    Description,
    Finding,
    Generation,
    GenerationCounts,
    GenerationRequest,
    GenerationState,
    KnownCompound,
    Task,
)
from server.domain.operations import Backlog

_OPEN = (GenerationState.QUEUED.value, GenerationState.RUNNING.value)


class SqlGenerations:
    """The `Generations` port over one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, generation: Generation) -> None:
        session = self._session
        values = {
            "id": generation.id,
            "request": _text(asdict(generation.request)),
            "state": GenerationState.QUEUED.value,
            "counts": _text(asdict(generation.counts)),
            "neighbours": _text([]),
            "create_time": session.now,
        }
        session.write(session.insert(generations).values(**values))

    def get(self, generation_id: str) -> Generation:
        row = self._session.connection.execute(select(generations).where(generations.c.id == generation_id)).one_or_none()
        if row is None:
            raise AtomasError(Reason.OPERATION_NOT_FOUND, f"There is no operation {generation_id!r}.", operation=generation_id)
        return _generation(row)

    def claim(self, generation_id: str, worker: str, silent_seconds: float) -> bool:
        session = self._session
        free = or_(
            generations.c.state == GenerationState.QUEUED.value,
            generations.c.worker == worker,
            generations.c.beat_time <= session.now - timedelta(seconds=silent_seconds),
        )
        chosen = (generations.c.id == generation_id) & generations.c.state.in_(_OPEN) & free
        claimed = session.write(
            update(generations).where(chosen).values(state=GenerationState.RUNNING.value, worker=worker, beat_time=session.now)
        )
        if claimed.rowcount != 1:
            return False
        first = (generations.c.id == generation_id) & generations.c.start_time.is_(None)
        session.write(update(generations).where(first).values(start_time=session.now))
        return True

    def beat(self, generation_id: str, worker: str) -> bool:
        beaten = self._session.write(update(generations).where(_held(generation_id, worker)).values(beat_time=self._session.now))
        return beaten.rowcount == 1

    def release(self, generation_id: str, worker: str) -> None:
        held = _held(generation_id, worker)
        self._session.write(update(generations).where(held).values(state=GenerationState.QUEUED.value, worker=None, beat_time=None))

    def add_findings(self, generation_id: str, worker: str, after: int, findings: Sequence[Finding], counts: GenerationCounts) -> bool:
        session = self._session
        noted = session.write(
            update(generations)
            .where(_held(generation_id, worker))
            .values(counts=_text(asdict(counts)), beat_time=session.now)
            .returning(generations.c.key)
        ).scalar_one_or_none()
        if noted is None:
            return False
        rows = [
            {"generation_key": noted, "ordinal": ordinal, "content": _text(asdict(finding))}
            for ordinal, finding in enumerate(findings, after + 1)
        ]
        if rows:
            session.write(session.insert(generation_findings), rows)
        return True

    def note_neighbours(self, generation_id: str, worker: str, neighbours: Sequence[KnownCompound]) -> None:
        values = {"neighbours": _text([asdict(known) for known in neighbours])}
        self._session.write(update(generations).where(_held(generation_id, worker)).values(**values))

    def succeed(self, generation_id: str, worker: str, shortfall: str) -> None:
        self._end(_held(generation_id, worker), state=GenerationState.SUCCEEDED.value, shortfall=shortfall)

    def fail(self, generation_id: str, reason: str, message: str) -> None:
        self._end(_open(generation_id), state=GenerationState.FAILED.value, error=_text([reason, message]))

    def cancel(self, generation_id: str) -> None:
        self._end(_open(generation_id), state=GenerationState.CANCELLED.value)

    def findings(self, generation_id: str, after: int = 0) -> list[Finding]:
        query = (
            select(generation_findings.c.content, generations.c.request)
            .join(generations)
            .where(generations.c.id == generation_id, generation_findings.c.ordinal > after)
            .order_by(generation_findings.c.ordinal)
        )
        rows = self._session.connection.execute(query).all()
        return [_finding(row.request, json.loads(row.content)) for row in rows]

    def running(self, limit: int) -> list[Generation]:
        query = select(generations).where(generations.c.end_time.is_(None)).order_by(generations.c.key.desc()).limit(limit)
        return [_generation(row) for row in self._session.connection.execute(query)]

    def waiting(self, silent_seconds: float, limit: int) -> list[str]:
        silent = or_(
            generations.c.state == GenerationState.QUEUED.value,
            generations.c.beat_time <= self._session.now - timedelta(seconds=silent_seconds),
        )
        query = select(generations.c.id).where(generations.c.end_time.is_(None), silent).order_by(generations.c.key).limit(limit)
        return list(self._session.connection.scalars(query))

    def backlog(self) -> Backlog:
        query = select(func.count(), func.min(generations.c.create_time)).where(generations.c.state == GenerationState.QUEUED.value)
        count, oldest = self._session.connection.execute(query.where(generations.c.end_time.is_(None))).one()
        return Backlog(count, self._session.age_seconds(oldest))

    def forget(self, older_than_seconds: float) -> None:
        before = self._session.now - timedelta(seconds=older_than_seconds)
        self._session.write(delete(generations).where(generations.c.end_time <= before))

    def _end(self, chosen: ColumnElement[bool], **values: object) -> None:
        self._session.write(update(generations).where(chosen).values(end_time=self._session.now, worker=None, beat_time=None, **values))


def _open(generation_id: str) -> ColumnElement[bool]:
    return (generations.c.id == generation_id) & generations.c.state.in_(_OPEN)


def _held(generation_id: str, worker: str) -> ColumnElement[bool]:
    running = generations.c.state == GenerationState.RUNNING.value
    return (generations.c.id == generation_id) & (generations.c.worker == worker) & running


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _generation(row: Row[Any]) -> Generation:
    asked, counts = json.loads(row.request), json.loads(row.counts)
    error = json.loads(row.error) if row.error else None
    return Generation(
        id=row.id,
        request=_request(asked),
        state=GenerationState(row.state),
        counts=GenerationCounts(**counts),
        shortfall=row.shortfall or "",
        neighbours=tuple(KnownCompound(**known) for known in json.loads(row.neighbours)),
        error=(error[0], error[1]) if error else None,
        create_time=row.create_time,
        start_time=row.start_time,
        end_time=row.end_time,
    )


def _request(asked: Mapping[str, Any]) -> GenerationRequest:
    libraries = None if asked["libraries"] is None else tuple(asked["libraries"])
    return GenerationRequest(**{**asked, "task": Task(asked["task"]), "libraries": libraries})


def _finding(request: str, said: Mapping[str, Any]) -> Finding:
    if json.loads(request)["task"] == Task.DESCRIPTIONS.value:
        return Description(**{**said, "dropped_sentences": tuple(said["dropped_sentences"])})
    return Candidate(**{**said, "nearest": tuple(KnownCompound(**known) for known in said["nearest"])})
