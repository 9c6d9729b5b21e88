"""A search: the question, the legs that answer it, the hits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from server.domain.compounds import Compound
from server.domain.filters import Filter


class Leg(StrEnum):
    """One way of comparing the query with a compound; also the name of its vector, where the index has one for it."""

    MOLECULES = "molecules"
    TEXTS = "texts"
    LEXICAL = "lexical"
    FINGERPRINTS = "fingerprints"
    # The hierarchy: what the other legs found is ordered again by how fragments meet phrases.
    FRAGMENTS = "fragments"


# Legs that the vector index answers; fingerprints are the structure index's.
INDEX_LEGS = (Leg.MOLECULES, Leg.TEXTS, Leg.LEXICAL)
# Legs whose vectors the model makes: dense, of length 1, compared by their cosine.
VECTOR_LEGS = (Leg.MOLECULES, Leg.TEXTS)


class Kind(StrEnum):
    """What a query was taken for."""

    TEXT = "TEXT"
    NAME = "NAME"
    STRUCTURE = "STRUCTURE"
    INCHIKEY = "INCHIKEY"
    SOURCE_ID = "SOURCE_ID"
    COMPOUND = "COMPOUND"
    # Nothing is asked but the filter.
    FILTER = "FILTER"


@dataclass(frozen=True)
class Interpretation:
    """How a query was understood."""

    kind: Kind
    # Canonical SMILES of the structure that was searched with; empty for words.
    smiles: str = ""
    # The name in the library that was taken for the query, when the query spells it otherwise.
    corrected_name: str = ""


@dataclass(frozen=True)
class Query:
    """What is asked. At most one of text, structure, compound (library, InChIKey) and anything is set; none lists what meets the filter."""

    # None searches every library, or those in `libraries`.
    library: str | None
    text: str | None = None
    structure: str | None = None
    compound: tuple[str, str] | None = None
    # One box: words, a name, an id, an InChIKey or a structure, to be recognised.
    anything: str | None = None
    libraries: tuple[str, ...] = ()
    # Legs to ask; None leaves the choice to the kind of query.
    legs: frozenset[Leg] | None = None
    # Weights in the fusion instead of the usual ones; 0 leaves a leg out.
    weights: Mapping[Leg, float] = field(default_factory=dict)
    filter: Filter | None = None
    limit: int = 10
    offset: int = 0
    # Hits that each leg of a fused search gives: all that pages can reach. The same for every page, or ranks would change between them.
    # None on a first page, whose size decides.
    reach: int | None = None

    @property
    def within(self) -> tuple[str, ...] | None:
        """Ids of the libraries to search, None for all."""
        return self.libraries or (None if self.library is None else (self.library,))


@dataclass(frozen=True)
class NamedCompound:
    """A compound and the name, id or InChIKey it was found by, as its records spell it."""

    library: str
    inchikey: str
    name: str
    is_id: bool = False
    # The compound is shown under this name.
    is_title: bool = False


@dataclass(frozen=True)
class LegScore:
    """How one leg saw a hit: cosine of vectors, BM25 of words, Tanimoto similarity of fingerprints, or weighted cosines of fragments."""

    leg: Leg
    # 0 where the compound has nothing that the leg could compare.
    score: float
    # From 1; 0 beyond what the leg looked at.
    rank: int
    # Of the leg in the fusion.
    weight: float = 1.0


@dataclass(frozen=True)
class Hit:
    """A compound that answers the query, with what each leg said."""

    rank: int
    score: float
    compound: Compound
    legs: Sequence[LegScore]
    matched_words: Sequence[str] = ()
    # Atoms of the compound's SMILES, from 0, that the filter's substructures cover.
    matched_atoms: Sequence[int] = ()


@dataclass(frozen=True)
class SearchPage:
    """One page of hits; `more` tells whether another follows."""

    hits: Sequence[Hit]
    more: bool
    model_version: str
    # Seconds spent per stage: prepare, encode, search, fuse, align, show.
    timings_seconds: Mapping[str, float]
    interpretation: Interpretation = Interpretation(Kind.TEXT)
    # The best hits score no better than those of meaningless queries.
    no_good_match: bool = False
    # Where the next page begins, and how far pages reach.
    end: int = 0
    reach: int = 0
