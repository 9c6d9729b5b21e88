"""Values the client takes and gives: frozen, typed, free of transport."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias, overload

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"


class Target(StrEnum):
    """What a query is compared with."""

    # What suits the query: words are compared with molecules and texts, a structure with molecules and fingerprints.
    BOTH = "both"
    MOLECULES = "molecules"
    TEXTS = "texts"
    # Tanimoto similarity of Morgan fingerprints; for structures and compounds.
    FINGERPRINTS = "fingerprints"


class Health(StrEnum):
    """Whether the service takes calls."""

    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    UNKNOWN = "UNKNOWN"


class OperationState(StrEnum):
    """Where a long-running operation stands; the last three are final."""

    # The state of a newer service, unknown to this client.
    UNKNOWN = "UNKNOWN"
    RECEIVING = "RECEIVING"
    PROCESSING = "PROCESSING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Library:
    """A named collection of compounds."""

    # `libraries/{library}`.
    resource_name: str
    name: str
    description: str
    compound_count: int
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def id(self) -> str:
        return self.resource_name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Properties computed from the full standardised structure; masses in g/mol and Da, TPSA in square angstroms."""

    molecular_weight: float
    exact_mass: float
    clogp: float
    tpsa: float
    hbd: int
    hba: int
    rotatable_bonds: int
    rings: int
    aromatic_rings: int
    heavy_atoms: int
    charge: int
    stereo_centres: int
    fraction_csp3: float
    formula: str


@dataclass(frozen=True, slots=True)
class Compound:
    """One molecule of a library; fields left out of a search's `fields` are empty."""

    # `libraries/{library}/compounds/{inchikey}`.
    resource_name: str
    name: str = ""
    synonyms: tuple[str, ...] = ()
    source_ids: tuple[str, ...] = ()
    smiles: str = ""
    inchikey: str = ""
    parent_smiles: str = ""
    parent_inchikey: str = ""
    descriptions: tuple[str, ...] = ()
    descriptors: Descriptors | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    create_time: datetime | None = None
    update_time: datetime | None = None
    # The structure with 2-D coordinates; only where it was asked for.
    molblock: str = ""

    @property
    def library(self) -> str:
        """Id of the library that holds it."""
        return self.resource_name.split("/")[1] if self.resource_name.startswith("libraries/") else ""


class QueryKind(StrEnum):
    """What a query was taken for."""

    # A kind of a newer service, or no word of it from an older one.
    UNKNOWN = "UNKNOWN"
    TEXT = "TEXT"
    NAME = "NAME"
    STRUCTURE = "STRUCTURE"
    INCHIKEY = "INCHIKEY"
    SOURCE_ID = "SOURCE_ID"
    COMPOUND = "COMPOUND"


@dataclass(frozen=True, slots=True)
class Interpretation:
    """How a query was understood."""

    kind: QueryKind = QueryKind.UNKNOWN
    # Canonical SMILES of the structure that was searched with; empty for words.
    smiles: str = ""
    # The name in the library that was taken for the query, when the query spells it otherwise.
    corrected_name: str = ""


@dataclass(frozen=True, slots=True)
class LegScore:
    """How one way of searching saw a hit: cosine similarity of vectors, BM25 of words, Tanimoto similarity of fingerprints."""

    leg: str
    score: float
    # From 1; 0 when the hit lies beyond what this way of searching looked at.
    rank: int
    # In the fusion of all ways.
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A compound that answers a search. Scores are comparable within one search only; higher is better."""

    rank: int
    score: float
    compound: Compound
    legs: tuple[LegScore, ...] = ()
    matched_words: tuple[str, ...] = ()
    # Atoms of `compound.smiles`, from 0, that the filter's substructure matched.
    matched_atoms: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of hits; `next_page_token` is empty on the last."""

    hits: tuple[Hit, ...]
    next_page_token: str
    # `models/{model}`.
    model: str
    interpretation: Interpretation = Interpretation()
    # The best hits score no better than those of meaningless queries do.
    no_good_match: bool = False
    # Seconds that the service spent, by stage: prepare, structures, encode, search, fuse, show.
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Hit]):
    """The best hits, best first, and the model that found them."""

    hits: tuple[Hit, ...]
    # `models/{model}`; empty when no hit was asked for.
    model: str
    interpretation: Interpretation = Interpretation()
    # The best hits score no better than those of meaningless queries do.
    no_good_match: bool = False
    # Seconds that the service spent, by stage: prepare, structures, encode, search, fuse, show.
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, pages: "Sequence[SearchPage]", limit: int) -> "SearchResult":
        """The first hits of the pages, which belong to one search."""
        if not pages:
            return cls((), "")
        hits = tuple(hit for page in pages for hit in page.hits)[:limit]
        timings = {name: sum(page.timings.get(name, 0.0) for page in pages) for name in pages[0].timings}
        return cls(hits, pages[0].model, pages[0].interpretation, pages[0].no_good_match, timings)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """One answer of several: the result, or why this search alone has none."""

    result: SearchResult | None
    # UPPER_SNAKE reason and a sentence for people; both empty when there is a result.
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The unit vector of one text or structure, or why this one alone has none."""

    vector: tuple[float, ...] | None
    # UPPER_SNAKE reason and a sentence for people; both empty when there is a vector.
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Embeddings(Sequence[Embedding]):
    """One embedding for each input, in order, and the model that made them."""

    embeddings: tuple[Embedding, ...]
    # `models/{model}`; empty when there was no input.
    model: str

    def __len__(self) -> int:
        return len(self.embeddings)

    def __iter__(self) -> Iterator[Embedding]:
        return iter(self.embeddings)

    @overload
    def __getitem__(self, index: int) -> Embedding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Embedding, ...]: ...
    def __getitem__(self, index: int | slice) -> Embedding | tuple[Embedding, ...]:
        return self.embeddings[index]


@dataclass(frozen=True, slots=True)
class Model:
    """Weights, tokenizer and molecule standard under one content hash."""

    # `models/{version}`.
    resource_name: str
    # `SERVING` for the one that answers searches; else FILLING, READY or RETIRED.
    state: str
    dimension: int
    molecule_standard: str
    max_tokens: int
    # Compounds with vectors of this model.
    compound_count: int = 0

    @property
    def version(self) -> str:
        return self.resource_name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two models answer to one query: resource names of compounds, best first."""

    text: str
    former: Sequence[str]
    present: Sequence[str]
    # Share of hits that both answers hold.
    overlap: float


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """What a filled model answers beside the serving one."""

    comparisons: Sequence[Comparison]
    mean_overlap: float


@dataclass(frozen=True, slots=True)
class ReindexProgress:
    """How far the index of another model is filled."""

    indexed: int
    compounds: int
    # At the pace so far; None before there is any.
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """Verdicts of an import so far; at the end received = created + updated + duplicate + rejected."""

    received: int = 0
    created: int = 0
    updated: int = 0
    # Rows that changed nothing.
    duplicate: int = 0
    rejected: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)
    # Rows whose compounds can be found by search.
    indexed: int = 0
    # Compounds whose texts were longer than the model reads.
    shortened_texts: int = 0

    @property
    def decided(self) -> int:
        """Rows that have their verdict."""
        return self.created + self.updated + self.duplicate + self.rejected


@dataclass(frozen=True, slots=True)
class Operation:
    """Long-running work of the service, such as an import."""

    # `operations/{operation}`.
    resource_name: str
    state: OperationState
    done: bool
    library: str = ""
    source: str = ""
    counts: ImportCounts = ImportCounts()
    # `models/{version}` and progress when a model's index is being filled.
    model: str = ""
    reindex: ReindexProgress | None = None
    # Reason and message when it failed or was cancelled; empty otherwise.
    reason: str = ""
    message: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def id(self) -> str:
        return self.resource_name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import has come."""

    operation: str
    rows_sent: int
    # Rows that are durable, whatever dies.
    rows_acknowledged: int
    # Bytes of the file read so far, and its size; None when the rows do not come from a file of known size.
    bytes_read: int | None = None
    total_bytes: int | None = None
    # Verdicts, once all rows are acknowledged and the service works on them.
    counts: ImportCounts | None = None


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export has come."""

    compounds: int
    # Compounds of the library that were looked at, and how many there are.
    examined: int
    total: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did; with `wait=False` the counts are those at the moment the last row was acknowledged."""

    # `operations/{operation}`; empty when there was nothing to import.
    operation: str
    library: str
    state: OperationState
    rows: int
    counts: ImportCounts


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source to import; exactly one of smiles, inchi, molblock and unreadable is set."""

    smiles: str | None = None
    inchi: str | None = None
    molblock: str | None = None
    # Why the reader could not make out the row; the service lists it among the rejected.
    unreadable: str | None = None
    # The row's own id, such as `CHEBI:27732`.
    id: str = ""
    name: str = ""
    synonyms: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    # Line or record number in the source, from 1; None counts rows as they come.
    position: int | None = None

    def __post_init__(self) -> None:
        structures = [s for s in (self.smiles, self.inchi, self.molblock, self.unreadable) if s is not None]
        if len(structures) != 1:
            raise ValueError(f"A row needs exactly one of smiles, inchi, molblock and unreadable; this one has {len(structures)}.")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that did not become a compound, and why."""

    position: int
    # UPPER_SNAKE, such as INVALID_SMILES.
    reason: str
    message: str
    row: Row
