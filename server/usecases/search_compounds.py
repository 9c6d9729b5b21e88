"""Search: one query, several legs, one ranking."""

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

from encoder.molecules import MoleculeError, Structure
from server.domain.compounds import Compound, point_id
from server.domain.documents import compound_of
from server.domain.errors import AtomasError, Reason
from server.domain.search import Hit, Leg, LegScore, Query, SearchPage
from server.ports import Ports, ScoredPoint, Vector
from server.usecases.parse_filter import parse_filter

# Reciprocal rank fusion (Cormack et al., SIGIR 2009); 60 is the paper's constant.
RANK_CONSTANT = 60
MAX_DEPTH = 10_000
# Words too common in descriptions of molecules to say why a hit matched.
_COMMON = frozenset(
    "the and with that has have for its from are was one two which role into not any all molecule compound compounds".split()  # noqa: SIM905
)


@dataclass
class Timings:
    """Seconds spent per named stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of its block to the stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def search_compounds(
    query: Query, filter_text: str, ports: Ports, *, max_text_characters: int, timeout_seconds: float | None = None
) -> SearchPage:
    """Ranks compounds by the query.

    Raises EMPTY_QUERY, TEXT_TOO_LONG, the chemistry door's reasons, LIBRARY_NOT_FOUND, COMPOUND_NOT_FOUND, INVALID_FILTER, UNKNOWN_FIELD,
    INVALID_ARGUMENT for a page beyond MAX_DEPTH.
    """
    reach = MAX_DEPTH if len(query.legs) == 1 else query.reach
    if query.offset + query.limit > reach:
        raise AtomasError(
            Reason.INVALID_ARGUMENT,
            f"This search reaches {reach:,} hits deep. Narrow it with a filter, name one target, or list the library.",
        )
    timings = Timings()
    with timings.stage("prepare"):
        query = replace(query, filter=parse_filter(filter_text, _metadata_fields(query.library, ports)))
    with timings.stage("encode"):
        vector, exclude = _query_vector(query, ports, max_text_characters, timeout_seconds)
    # One hit more than the page tells whether another page follows.
    wanted = query.offset + query.limit + 1
    legs = sorted(query.legs)
    depth = (wanted if len(legs) == 1 else reach) + (exclude is not None)
    libraries = None if query.library is None else [query.library]
    with timings.stage("search"):
        found = {leg: ports.index.search(leg, [vector], depth, libraries, query.filter)[0] for leg in legs}
        found = {leg: [point for point in points if point.id != exclude] for leg, points in found.items()}
    with timings.stage("fuse"):
        scores = _fuse(found)
        page = list(scores)[query.offset : query.offset + query.limit]
        said = _leg_scores(found, page)
    with timings.stage("show"):
        documents = ports.index.documents(page)
        words = query_words(query.text or "")
        # A compound that was deleted since it was found is left out.
        compounds = {point: compound_of(documents[point]) for point in page if point in documents}
        hits = [
            Hit(rank, scores[point], compounds[point], said[point], matched_words(words, compounds[point]))
            for rank, point in enumerate(page, query.offset + 1)
            if point in compounds
        ]
    end = query.offset + query.limit
    return SearchPage(hits, end < min(len(scores), reach), ports.index.model_version, timings.seconds)


def _metadata_fields(library: str | None, ports: Ports) -> frozenset[str]:
    with ports.database.reading() as transaction:
        libraries = transaction.libraries.page("", MAX_DEPTH) if library is None else [transaction.libraries.get(library)]
    return frozenset(name for each in libraries for name in each.fields)


def _query_vector(query: Query, ports: Ports, max_text_characters: int, timeout_seconds: float | None) -> tuple[Vector, UUID | None]:
    """The query's vector, and the point to leave out of the answer: a compound is not similar to itself."""
    if query.text is not None:
        return ports.encoder.encode_texts([checked_text(query.text, max_text_characters)], timeout_seconds)[0], None
    if query.structure is not None:
        molecule = ports.chemistry.standardise_one(Structure("auto", query.structure))
        if isinstance(molecule, MoleculeError):
            raise AtomasError(Reason(molecule.reason), molecule.message)
        return ports.encoder.encode_molecules([molecule.smiles], timeout_seconds)[0], None
    if query.compound is None:
        raise AtomasError(Reason.EMPTY_QUERY, "The query is empty: give a text, a structure or a compound.")
    library, inchikey = query.compound
    with ports.database.reading() as transaction:
        transaction.libraries.get(library)
        compound = transaction.compounds.get(library, inchikey)
    return ports.encoder.encode_molecules([compound.structure.smiles], timeout_seconds)[0], point_id(library, inchikey)


def checked_text(text: str, max_characters: int) -> str:
    """The text itself. Raises EMPTY_QUERY, TEXT_TOO_LONG."""
    if not text.strip():
        raise AtomasError(Reason.EMPTY_QUERY, "The text is empty: say in words what to look for.")
    if len(text) > max_characters:
        raise AtomasError(Reason.TEXT_TOO_LONG, f"The text has {len(text):,} characters; at most {max_characters:,} are read. Shorten it.")
    return text


def _fuse(found: Mapping[Leg, Sequence[ScoredPoint]]) -> dict[UUID, float]:
    """Scores by id, best first: reciprocal rank fusion scaled so that first place in every leg scores 1; a single leg keeps its cosine."""
    if len(found) == 1:
        return {point.id: point.score for points in found.values() for point in points}
    scores: dict[UUID, float] = {}
    for points in found.values():
        for rank, point in enumerate(points, RANK_CONSTANT + 1):
            scores[point.id] = scores.get(point.id, 0.0) + (RANK_CONSTANT + 1) / rank / len(found)
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0].int)))


def _leg_scores(found: Mapping[Leg, Sequence[ScoredPoint]], wanted: Collection[UUID]) -> dict[UUID, list[LegScore]]:
    """What each leg said of the wanted points."""
    said: dict[UUID, list[LegScore]] = {point: [] for point in wanted}
    for leg, points in found.items():
        for rank, point in enumerate(points, 1):
            if point.id in said:
                said[point.id].append(LegScore(leg, point.score, rank))
    return said


def query_words(text: str) -> list[str]:
    """The telling words of a query, lower-case, in order."""
    return list(dict.fromkeys(word for word in re.findall(r"\w[\w'-]{2,}", text.lower()) if word not in _COMMON))


def matched_words(words: Sequence[str], compound: Compound) -> list[str]:
    """Those of the words that the compound's names and texts contain, plural or not."""
    said = set(re.findall(r"\w[\w'-]{2,}", " ".join((compound.display_name, *compound.synonyms, *compound.descriptions)).lower()))
    return [word for word in words if word in said or word.removesuffix("s") in said or f"{word}s" in said]
