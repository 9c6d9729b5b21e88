"""A search: the question, the legs that answer it, the hits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from server.domain.compounds import Compound
from server.domain.filters import Filter


class Leg(StrEnum):
    """One way of comparing the query with a compound; also the name of the vector in the index."""

    MOLECULES = "molecules"
    TEXTS = "texts"
    LEXICAL = "lexical"


# Legs whose vectors the model makes: dense, of length 1, compared by their cosine.
VECTOR_LEGS = (Leg.MOLECULES, Leg.TEXTS)


@dataclass(frozen=True)
class Query:
    """What is asked. Exactly one of text, structure and compound (library, InChIKey) is set."""

    # None searches every library.
    library: str | None
    text: str | None = None
    structure: str | None = None
    compound: tuple[str, str] | None = None
    legs: frozenset[Leg] = frozenset(VECTOR_LEGS)
    filter: Filter | None = None
    limit: int = 10
    offset: int = 0
    # Hits that each leg of a fused search gives: all that pages can reach. The same for every page, or ranks would change between them.
    reach: int = 250


@dataclass(frozen=True)
class NamedCompound:
    """A compound and the name, id or InChIKey it was found by, as its records spell it."""

    library: str
    inchikey: str
    name: str
    is_id: bool = False


@dataclass(frozen=True)
class LegScore:
    """Cosine similarity and rank (from 1) of a hit in one leg."""

    leg: Leg
    score: float
    rank: int


@dataclass(frozen=True)
class Hit:
    """A compound that answers the query, with what each leg said."""

    rank: int
    score: float
    compound: Compound
    legs: Sequence[LegScore]
    matched_words: Sequence[str] = ()


@dataclass(frozen=True)
class SearchPage:
    """One page of hits; `more` tells whether another follows."""

    hits: Sequence[Hit]
    more: bool
    model_version: str
    # Seconds spent per stage: encode, search, fuse.
    timings_seconds: Mapping[str, float]
