"""How a compound becomes a point of the Qdrant engine: unit vectors, payload, indexed fields."""

import functools
import hashlib
import math
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server.domain.compounds import NUMERIC_DESCRIPTORS, JsonValue
from server.domain.search import VECTOR_LEGS, Leg
from server.ports import Parts, Point, Vector, Words

# Keys of the payload. Texts and booleans become terms of one array, so that one keyword index serves every field, whatever its name;
# numbers need an index for each field, because ranges do.
LIBRARY = "library"
DOCUMENT = "document"
TERMS = "terms"
NUMBERS = "numbers"

# An index on a metadata number answers a filter in a fraction of a millisecond, its lack costs 4 µs for each point;
# but every index costs memory, and nothing stops a library from having thousands of columns.
MAX_METADATA_INDEXES = 64
# Longer texts are compared by their hash.
MAX_TERM_CHARACTERS = 128


@dataclass(frozen=True)
class EnginePoint:
    """A point checked and converted: nothing in it can be refused by the engine."""

    id: uuid.UUID
    vectors: dict[str, list[float]]
    payload: dict[str, object]
    # Numbers and weights of its words, in one order.
    words: tuple[list[int], list[float]] = ([], [])
    # Unit vectors of its fragments.
    fragments: list[list[float]] = field(default_factory=list)


def engine_points(points: Sequence[Point], dimension: int, fragment_dimension: int = 0) -> list[EnginePoint]:
    """Raises ValueError for an unknown vector name, a wrong dimension, a vector without direction, text that is no Unicode.

    Fragments are left out of an index that has no place for them (`fragment_dimension` 0).
    """
    vectors: list[dict[str, list[float]]] = [{} for _ in points]
    for leg in VECTOR_LEGS:
        rows = [i for i, point in enumerate(points) if leg in point.vectors]
        units = unit_vectors([points[i].vectors[leg] for i in rows], dimension, [f"{leg} of point {points[i].id}" for i in rows])
        for i, unit in zip(rows, units.tolist(), strict=True):
            vectors[i][leg.value] = unit
    for point, known in zip(points, vectors, strict=True):
        if len(known) != len(point.vectors):
            raise ValueError(f"Point {point.id} has vectors {sorted(point.vectors)}; the index knows {[leg.value for leg in VECTOR_LEGS]}.")
    return [
        EnginePoint(point.id, known, _payload(point), engine_words(point.words, f"point {point.id}"), fragments)
        for point, known, fragments in zip(points, vectors, _fragments(points, fragment_dimension), strict=True)
    ]


def _fragments(points: Sequence[Point], dimension: int) -> list[list[list[float]]]:
    found: list[list[list[float]]] = [[] for _ in points]
    rows = [i for i, point in enumerate(points) if dimension and point.fragments is not None for _ in point.fragments]
    names = [f"{Leg.FRAGMENTS} of point {points[i].id}" for i in rows]
    every = [vector for point in points if dimension and point.fragments is not None for vector in point.fragments]
    for i, unit in zip(rows, unit_vectors(every, dimension, names).tolist(), strict=True):
        found[i].append(unit)
    return found


def engine_phrases(phrases: Parts, dimension: int) -> list[list[float]]:
    """Vectors scaled by their weights, so that the sum of their best scores is the weighted alignment. Raises ValueError as `engine_points`."""
    weights = np.asarray(phrases.weights, dtype=np.float64)
    if weights.shape != (len(phrases.vectors),) or not np.isfinite(weights).all():
        raise ValueError(f"{len(phrases.vectors)} phrases have weights of shape {weights.shape}, or some are not finite.")
    units = unit_vectors(list(phrases.vectors), dimension, [f"phrase {i}" for i in range(len(weights))])
    scaled: list[list[float]] = (units * weights[:, None]).tolist()
    return scaled


def engine_words(words: Words, name: str) -> tuple[list[int], list[float]]:
    """Numbers and weights of words. Raises ValueError for a number beyond 32 bits and a weight that is not positive and finite."""
    for number, weight in words.items():
        if not (0 <= number < 1 << 32 and 0 < weight < math.inf):
            raise ValueError(f"Words of {name}: {number} weighs {weight}; numbers have 32 bits, weights are positive and finite.")
    return list(words), [float(weight) for weight in words.values()]


def unit_vectors(vectors: Sequence[Vector], dimension: int, names: Sequence[str] | None = None) -> NDArray[np.float32]:
    """The vectors scaled to length 1, shape (N, dimension), N possibly 0. Raises ValueError as `engine_points`, naming the vector.

    The engine normalises too, but in float32, where large and tiny vectors overflow, and it ranks NaN first.
    """
    for i, vector in enumerate(vectors):
        if np.shape(vector) != (dimension,):
            raise ValueError(
                f"Vector {names[i] if names else i} has shape {np.shape(vector)}; this index holds vectors of {dimension} values."
            )
    stacked = np.array(vectors, dtype=np.float64).reshape(len(vectors), dimension)
    lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"Vector {names[i] if names else i} is all zeros or has values that are not finite; it has no direction to compare."
        )
    units: NDArray[np.float32] = (stacked / lengths).astype(np.float32)
    return units


def _payload(point: Point) -> dict[str, object]:
    numbers: dict[str, list[float]] = {}
    terms: list[str] = []
    try:
        for field, value in point.fields.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, bool | str):
                    terms.append(term(field, item))
                elif (number := _finite(item)) is not None:
                    numbers.setdefault(escaped(field), []).append(number)
        "".join((point.library, point.document, *terms)).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"Point {point.id} holds text that is no Unicode: {error.reason}.") from None
    return {LIBRARY: point.library, DOCUMENT: point.document, TERMS: terms, NUMBERS: numbers}


def _finite(value: JsonValue) -> float | None:
    """Other numbers cannot be stored as JSON, and no condition compares with them."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def term(field: str, value: str | bool) -> str:
    """What the terms of a point hold when the field has the value."""
    if isinstance(value, bool):
        return f"{escaped(field)}:{str(value).lower()}"
    if len(value) > MAX_TERM_CHARACTERS:
        return f"{escaped(field)}#{hashlib.blake2b(value.encode(), digest_size=20).hexdigest()}"
    return f"{escaped(field)}={value}"


def number_path(field: str) -> str:
    """Where the numbers of a field are, as the engine addresses payloads."""
    return f"{NUMBERS}.{escaped(field)}"


@functools.lru_cache(maxsize=4096)
def escaped(field: str) -> str:
    """The field's name in the letters that a payload path may hold unquoted; different names stay different."""
    return re.sub(r"[^A-Za-z0-9_]", lambda match: f"-{ord(match[0]):x}-", field)


DESCRIPTOR_PATHS = tuple(number_path(name) for name in NUMERIC_DESCRIPTORS)
# Counts of the elements that most compounds have get an index; compounds with any other are few, and its symbol, a term, finds them.
_ELEMENTS = number_path("elements.")
_ELEMENT_PATHS = frozenset(number_path(f"elements.{symbol}") for symbol in ("C", "H", "N", "O", "S", "P", "F", "Cl"))


def paths_to_index(points: Iterable[EnginePoint], indexed: set[str]) -> list[str]:
    """Paths of numbers that have no index yet, of metadata as many as may still get one."""
    room = MAX_METADATA_INDEXES - len(indexed.difference(DESCRIPTOR_PATHS, _ELEMENT_PATHS))
    found: dict[str, None] = {}
    for point in points:
        numbers = point.payload.get(NUMBERS)
        if isinstance(numbers, dict):
            found.update(dict.fromkeys(path for name in numbers if (path := f"{NUMBERS}.{name}") not in indexed))
    elements = [path for path in found if path in _ELEMENT_PATHS]
    return [*elements, *[path for path in found if not path.startswith(_ELEMENTS)][: max(room, 0)]]
