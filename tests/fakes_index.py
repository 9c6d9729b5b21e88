"""A vector index of numpy arrays: the plainest right answer, which every real index is compared with."""

import json
import math
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from server.domain.compounds import JsonValue
from server.domain.errors import AtomasError, Reason
from server.domain.filters import NUMBER_TOLERANCE, Among, And, Condition, Filter, Not, Or, Structural
from server.domain.search import Leg
from server.ports import Parts, Point, Question, ScoredPoint, Vector, Words


class FakeIndex:
    """VectorIndex that compares every query with every point."""

    def __init__(self, model_version: str, dimension: int, fragment_dimension: int = 0) -> None:
        self._model_version = model_version
        self._dimension = dimension
        self._fragment_dimension = fragment_dimension
        self._points: dict[uuid.UUID, Point] = {}
        self._units: dict[uuid.UUID, dict[Leg, Vector]] = {}
        self._fragments: dict[uuid.UUID, NDArray[np.float32]] = {}

    @property
    def model_version(self) -> str:
        return self._model_version

    def upsert(self, points: Sequence[Point]) -> None:
        for point in points:
            _require_weights(point.words)
        units = [{Leg(leg): self._unit(vector) for leg, vector in point.vectors.items()} for point in points]
        fragments = [self._fragments_of(point) for point in points]
        for point in points:
            json.dumps([point.library, point.document, dict(point.fields)], ensure_ascii=False).encode()
        for point, vectors, parts in zip(points, units, fragments, strict=True):
            self._points[point.id] = point
            self._units[point.id] = vectors
            self._fragments[point.id] = parts

    def delete(self, ids: Sequence[uuid.UUID]) -> None:
        for id in ids:
            self._points.pop(id, None)
            self._units.pop(id, None)
            self._fragments.pop(id, None)

    def delete_library(self, library: str) -> None:
        self.delete(list(self.ids(library)))

    def search(
        self, leg: Leg, vectors: Sequence[Vector], limit: int, libraries: Sequence[str] | None = None, filter: Filter | None = None
    ) -> list[list[ScoredPoint]]:
        return self.search_legs([Question(leg, vector) for vector in vectors], limit, libraries, filter)

    def search_legs(
        self,
        questions: Sequence[Question],
        limit: int,
        libraries: Sequence[str] | None = None,
        filter: Filter | None = None,
        only: Collection[uuid.UUID] | None = None,
    ) -> list[list[ScoredPoint]]:
        checked = [self._checked(question) for question in questions]
        chosen = self._chosen(libraries, filter, only)
        answers = []
        for leg, asked in checked:
            scored = [ScoredPoint(point.id, score) for point in chosen if (score := self._score(point, leg, asked)) is not None]
            answers.append(sorted(scored, key=lambda point: (-point.score, point.id))[: max(limit, 0)])
        return answers

    def align(self, asked: Sequence[tuple[Parts, Collection[uuid.UUID]]]) -> list[dict[uuid.UUID, float]]:
        if not self._fragment_dimension:
            return [{} for _ in asked]
        return [self._aligned(phrases, ids) for phrases, ids in asked]

    def _aligned(self, phrases: Parts, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, float]:
        if np.shape(phrases.weights) != (len(phrases.vectors),) or not np.isfinite(phrases.weights).all():
            raise ValueError("a finite weight for each phrase")
        units = [self._unit(vector, self._fragment_dimension) for vector in phrases.vectors]
        if not units:
            return {}
        known = {id: fragments for id in ids if len(fragments := self._fragments.get(id, np.zeros((0, 0))))}
        return {id: float(phrases.weights @ (np.stack(units) @ fragments.T).max(axis=1)) for id, fragments in known.items()}

    def _fragments_of(self, point: Point) -> NDArray[np.float32]:
        if not self._fragment_dimension or point.fragments is None or not len(point.fragments):
            return np.zeros((0, self._fragment_dimension), np.float32)
        return np.stack([self._unit(vector, self._fragment_dimension) for vector in point.fragments])

    def select(
        self, libraries: Sequence[str] | None = None, filter: Filter | None = None, only: Collection[uuid.UUID] | None = None
    ) -> Iterator[uuid.UUID]:
        return iter(sorted(point.id for point in self._chosen(libraries, filter, only)))

    def _chosen(self, libraries: Sequence[str] | None, filter: Filter | None, only: Collection[uuid.UUID] | None) -> list[Point]:
        if filter is not None:
            _require_valid(filter)
        return [
            point
            for point in list(self._points.values())
            if (libraries is None or point.library in libraries)
            and (only is None or point.id in only)
            and (filter is None or meets(filter, point.id, point.fields))
        ]

    def _checked(self, question: Question) -> tuple[Leg, Vector | Words]:
        if isinstance(question.asked, np.ndarray) == (question.leg is Leg.LEXICAL):
            raise ValueError(f"the leg {question.leg} cannot be asked by {type(question.asked).__name__}")
        if isinstance(question.asked, np.ndarray):
            return question.leg, self._unit(question.asked)
        return question.leg, _require_weights(question.asked)

    def _score(self, point: Point, leg: Leg, asked: Vector | Words) -> float | None:
        if isinstance(asked, np.ndarray):
            unit = self._units.get(point.id, {}).get(leg)
            return None if unit is None else float((unit * asked).sum())
        common = [number for number in asked if number in point.words]
        return sum(asked[number] * point.words[number] * self._rarity(number) for number in common) if common else None

    def _rarity(self, number: int) -> float:
        points = [point for point in list(self._points.values()) if point.words]
        having = sum(number in point.words for point in points)
        return math.log(1 + (len(points) - having + 0.5) / (having + 0.5))

    def documents(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
        return {id: self._points[id].document for id in ids if id in self._points}

    def fetch_vectors(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Mapping[Leg, Vector]]:
        return {id: dict(self._units[id]) for id in ids if id in self._units}

    def count(self, library: str | None = None) -> int:
        return len(list(self.ids(library)))

    def ids(self, library: str | None = None) -> Iterator[uuid.UUID]:
        return iter(sorted(point.id for point in list(self._points.values()) if library in (None, point.library)))

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def _unit(self, vector: Vector, dimension: int = 0) -> Vector:
        if np.shape(vector) != (dimension or self._dimension,):
            raise ValueError(f"shape {np.shape(vector)} instead of ({dimension or self._dimension},)")
        length = float(np.linalg.norm(np.asarray(vector, dtype=np.float64)))
        if not math.isfinite(length) or length == 0:
            raise ValueError("a vector without direction")
        return (np.asarray(vector, dtype=np.float64) / length).astype(np.float32)


def _require_weights(words: Words) -> Words:
    if any(not 0 <= number < 1 << 32 or not 0 < weight < math.inf for number, weight in words.items()):
        raise ValueError("words are numbers of 32 bits with positive weights")
    return words


def meets(filter: Filter, id: uuid.UUID, fields: Mapping[str, JsonValue]) -> bool:
    """Whether a point with these fields passes, read straight from the rules of `server.domain.filters`."""
    match filter:
        case And(parts):
            return all(meets(part, id, fields) for part in parts)
        case Or(parts):
            return any(meets(part, id, fields) for part in parts)
        case Not(part):
            return not meets(part, id, fields)
        case Among(ids):
            return id in ids
        case Structural():
            raise TypeError("the structure index answers this question first")
        case Condition(field, "!=", value):
            return not meets(Condition(field, "=", value), id, fields)
        case Condition(field):
            values = fields.get(field)
            return any(_compares(value, filter) for value in (values if isinstance(values, list) else [values]))


def _compares(value: JsonValue, condition: Condition) -> bool:
    wanted = condition.value
    if isinstance(wanted, bool | str):
        return type(value) is type(wanted) and value == wanted
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if abs(value - wanted) <= abs(wanted) * NUMBER_TOLERANCE:
        return condition.operator in ("=", "<=", ">=")
    return condition.operator in (("<", "<=") if value < wanted else (">", ">="))


def _require_valid(filter: Filter) -> None:
    match filter:
        case And(parts) | Or(parts):
            for part in parts:
                _require_valid(part)
        case Not(part):
            _require_valid(part)
        case Condition(_, operator, str()) if operator not in ("=", "!="):
            raise AtomasError(Reason.INVALID_FILTER, "only numbers have an order")
        case Condition(_, operator, bool()) if operator not in ("=", "!="):
            raise AtomasError(Reason.INVALID_FILTER, "only numbers have an order")
        case Condition(_, _, float() as value) if not math.isfinite(value):
            raise AtomasError(Reason.INVALID_FILTER, "not a finite number")
