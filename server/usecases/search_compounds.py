"""Search: queries are understood, encoded together, put to the legs together, and each gets one ranking."""

import re
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice
from typing import TypeVar
from uuid import UUID

from server.domain.compounds import Compound, point_id
from server.domain.documents import compound_of
from server.domain.errors import AtomasError, Reason
from server.domain.filters import Filter
from server.domain.search import INDEX_LEGS, VECTOR_LEGS, Hit, Interpretation, Kind, Leg, Query, SearchPage
from server.observability.traces import span
from server.ports import Parts, Ports, Question, ScoredPoint, Transaction
from server.usecases.encode_each import encode_each, without_parts
from server.usecases.fuse_legs import REALIGNED, best_points, fuse, heaviest, leg_scores, realign, weights_of
from server.usecases.judge_match import MatchJudge
from server.usecases.parse_filter import parse_filter
from server.usecases.resolve_structures import matched_atoms, nearest_structures, patterns_of, resolve_structures
from server.usecases.understand_query import Understood, checked_text, understand
from server.usecases.words import query_weights

__all__ = ["MAX_DEPTH", "checked_text", "matched_words", "query_words", "search_compounds", "search_many"]

# How deep pages reach: of a single leg; of a fused search whose first page is small; and of one whose first page is large.
MAX_DEPTH = 10_000
SHALLOW_PAGE, SHALLOW_REACH, DEEP_REACH = 100, 250, 1_000
# How far a list without a ranking reaches.
LIST_DEPTH = 1_000_000
# What a compound that the query names scores above the rest.
NAMED_BONUS = 1.0
# Words too common in descriptions of molecules to say why a hit matched.
_COMMON = frozenset(
    "the and with that has have for its from are was one two which role into not any all molecule compound compounds".split()  # noqa: SIM905
)

Item = TypeVar("Item")


@dataclass
class Timings:
    """Seconds spent per named stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of its block to the stage."""
        started = time.perf_counter()
        try:
            with span(f"search.{name}"):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass
class _Search:
    """One query on its way."""

    query: Query
    understood: Understood
    # Patterns of the filter whose atoms hits show.
    patterns: Sequence[str]
    weights: Mapping[Leg, float]
    reach: int
    questions: dict[Leg, Question] = field(default_factory=dict)
    # What fragments are compared with.
    phrases: Parts = field(default_factory=Parts.none)
    found: dict[Leg, list[ScoredPoint]] = field(default_factory=dict)
    # Scores by id, best first.
    fused: dict[UUID, float] = field(default_factory=dict)
    # Points that the query names and the filter lets through, in order.
    named: list[UUID] = field(default_factory=list)

    @property
    def excluded(self) -> UUID | None:
        return None if self.understood.excluded is None else point_id(*self.understood.excluded)

    def without_asked(self, points: list[ScoredPoint]) -> list[ScoredPoint]:
        """The points but for the compound that asks for its neighbours."""
        excluded = self.excluded
        return points if excluded is None else [point for point in points if point.id != excluded]

    @property
    def depth(self) -> int:
        """How much each leg is asked for; one hit more than the page tells whether another page follows."""
        wanted = self.query.offset + self.query.limit + 1 if len(self.weights) <= 1 else self.reach
        return wanted + (self.excluded is not None)


def search_compounds(
    query: Query,
    filter_text: str,
    ports: Ports,
    *,
    max_text_characters: int,
    timeout_seconds: float | None = None,
    judge: MatchJudge | None = None,
) -> SearchPage:
    """Ranks compounds by the query; `judge` says whether that is any good, without it only finding nothing is bad.

    Raises EMPTY_QUERY, TEXT_TOO_LONG, the chemistry door's reasons, LIBRARY_NOT_FOUND, COMPOUND_NOT_FOUND, INVALID_FILTER, UNKNOWN_FIELD,
    INVALID_SMARTS and TIMEOUT for structures in the filter, INVALID_ARGUMENT for a page beyond what the search reaches and for weights that make no sense.
    """
    [page] = search_many(
        [(query, filter_text)], ports, max_text_characters=max_text_characters, timeout_seconds=timeout_seconds, judge=judge
    )
    if isinstance(page, AtomasError):
        raise page
    return page


def search_many(
    queries: Sequence[tuple[Query, str]],
    ports: Ports,
    *,
    max_text_characters: int,
    timeout_seconds: float | None = None,
    judge: MatchJudge | None = None,
) -> list[SearchPage | AtomasError]:
    """A page, or the reason why there is none, for each (query, filter), in order. Queries share forward passes and calls of the index."""
    timings = Timings()
    results: dict[int, SearchPage | AtomasError] = {}
    searches: dict[int, _Search] = {}
    with timings.stage("prepare"), ports.database.reading() as transaction:
        # Searches of one call mostly ask the same libraries.
        fields_of = cache(partial(_metadata_fields, transaction=transaction))
        for place, (query, filter_text) in enumerate(queries):
            try:
                filter = parse_filter(filter_text, fields_of(query.within, bool(filter_text)))
                searches[place] = _prepared(query, filter, transaction, ports, max_text_characters)
            except AtomasError as error:
                results[place] = error
    with timings.stage("structures"):
        results.update(_resolve(searches, ports))
        for place in results:
            searches.pop(place, None)
    with timings.stage("encode"):
        results.update(_encode(searches, ports, timeout_seconds))
    running = {place: search for place, search in searches.items() if place not in results}
    with timings.stage("search"):
        for alike in _grouped(running.values(), lambda search: (search.query.filter, search.query.within, search.depth)):
            _ask(alike, ports)
    for place, search in running.items():
        try:
            with timings.stage("search"):
                _ask_fingerprints(search, ports)
                _keep_named(search, ports)
            with timings.stage("fuse"):
                search.fused = fuse(search.found, search.weights, search.depth) if search.weights else _listed(search, ports)
        except AtomasError as error:
            results[place] = error
    running = {place: search for place, search in running.items() if place not in results}
    with timings.stage("align"):
        _align(running.values(), ports)
    for place, search in running.items():
        try:
            results[place] = _page(search, ports, timings, judge)
        except AtomasError as error:
            results[place] = error
    return [results[place] for place in range(len(queries))]


def _prepared(query: Query, filter: Filter | None, transaction: Transaction, ports: Ports, max_text_characters: int) -> _Search:
    understood = _understood(query, filter, transaction, ports, max_text_characters)
    weights = weights_of(understood.interpretation.kind, query.legs, query.weights)
    if Leg.FRAGMENTS in weights and not ports.encoder.model.fragment_dimension:
        if query.weights.get(Leg.FRAGMENTS):
            raise AtomasError(
                Reason.INVALID_ARGUMENT,
                f"The leg {Leg.FRAGMENTS} needs a model with a hierarchy; model {ports.encoder.model.version} has none.",
            )
        del weights[Leg.FRAGMENTS]
    deepest = LIST_DEPTH if not weights else MAX_DEPTH if len(weights) == 1 else DEEP_REACH
    first = deepest if len(weights) <= 1 or query.limit > SHALLOW_PAGE else SHALLOW_REACH
    # A page goes on as deep as the first one did; a token that was forged goes no deeper than any.
    reach = first if query.reach is None else min(query.reach, deepest)
    if query.offset >= reach:
        raise AtomasError(
            Reason.INVALID_ARGUMENT,
            f"This search reaches {reach:,} hits deep. Narrow it with a filter, name one target, or list the library.",
        )
    limit = min(query.limit, reach - query.offset)
    return _Search(replace(query, filter=filter, limit=limit), understood, patterns_of(filter), weights, reach)


def _understood(query: Query, filter: Filter | None, transaction: Transaction, ports: Ports, max_text_characters: int) -> Understood:
    if filter is not None and (query.text, query.structure, query.compound, query.anything) == (None, None, None, None):
        return Understood(Interpretation(Kind.FILTER))
    return understand(query, transaction, ports, max_text_characters)


def _resolve(searches: Mapping[int, _Search], ports: Ports) -> dict[int, AtomasError]:
    """Answers what filters ask about structures; returns the searches for which that fails."""
    failed: dict[int, AtomasError] = {}
    for place, search in searches.items():
        try:
            search.query = replace(search.query, filter=resolve_structures(search.query.filter, search.query.within, ports))
        except AtomasError as error:
            failed[place] = error
    return failed


def _metadata_fields(libraries: Sequence[str] | None, needed: bool, transaction: Transaction) -> dict[str, frozenset[str]]:
    """Metadata fields that filters may name and the kinds of their values. Raises LIBRARY_NOT_FOUND, also where no field is needed."""
    if libraries is None:
        known = transaction.libraries.page("", MAX_DEPTH) if needed else []
    else:
        known = [transaction.libraries.get(library) for library in libraries]
    fields: dict[str, frozenset[str]] = {}
    for each in known:
        for name, kinds in each.fields.items():
            fields[name] = fields.get(name, frozenset()) | kinds
    return fields


def _encode(searches: Mapping[int, _Search], ports: Ports, timeout_seconds: float | None) -> dict[int, AtomasError]:
    """Writes the questions of every search; returns those that cannot be encoded."""
    texts = {place: search.understood.text for place, search in searches.items() if search.understood.text}
    structures = {place: search.understood.smiles for place, search in searches.items() if search.understood.smiles}
    for place, text in texts.items():
        if Leg.LEXICAL in searches[place].weights:
            searches[place].questions[Leg.LEXICAL] = Question(Leg.LEXICAL, query_weights(text))
    failed: dict[int, AtomasError] = {}
    phrased = {place: text for place, text in texts.items() if Leg.FRAGMENTS in searches[place].weights}
    plain = {place: text for place, text in texts.items() if place not in phrased}
    for encode, items in (
        (ports.encoder.encode_texts_and_phrases, phrased),
        (without_parts(ports.encoder.encode_texts), plain),
        (without_parts(ports.encoder.encode_molecules), structures),
    ):
        places = [place for place in items if any(leg in VECTOR_LEGS or leg is Leg.FRAGMENTS for leg in searches[place].weights)]
        # Each input once, however many ask by it.
        found = encode_each(encode, list(dict.fromkeys(items[place] for place in places)), timeout_seconds)
        for place in places:
            encoded = found[items[place]]
            if isinstance(encoded, AtomasError):
                failed[place] = encoded
            else:
                legs = [leg for leg in searches[place].weights if leg in VECTOR_LEGS]
                searches[place].questions.update({leg: Question(leg, encoded[0]) for leg in legs})
                searches[place].phrases = heaviest(encoded[1])
    return failed


def _ask(alike: Sequence[_Search], ports: Ports) -> None:
    """Puts the questions of searches with the same filter, libraries and depth to the index at once."""
    # Leg by leg: the engine scores questions to one leg together.
    asked = [(search, leg, search.questions[leg]) for leg in INDEX_LEGS for search in alike if leg in search.questions]
    if not asked:
        return
    first = alike[0]
    answers = ports.index.search_legs([question for _, _, question in asked], first.depth, first.query.within, first.query.filter)
    for (search, leg, _), points in zip(asked, answers, strict=True):
        search.found[leg] = search.without_asked(points)


def _ask_fingerprints(search: _Search, ports: Ports) -> None:
    """Puts the question to the structure index; a search that did not name this leg goes on without it where there is none."""
    if Leg.FINGERPRINTS not in search.weights or not search.understood.fingerprint:
        return
    query = search.query
    try:
        points = nearest_structures(search.understood.fingerprint, search.depth, query.within, query.filter, ports)
    except AtomasError as error:
        named = query.legs is not None or Leg.FINGERPRINTS in query.weights
        if named or error.reason is not Reason.INDEX_UNAVAILABLE:
            raise
        search.weights = {leg: weight for leg, weight in search.weights.items() if leg is not Leg.FINGERPRINTS}
        return
    search.found[Leg.FINGERPRINTS] = search.without_asked(points)


def _align(searches: Iterable[_Search], ports: Ports) -> None:
    """Orders the first hits of the searches again by their fragments, asking the index once for all."""
    asked = [(search, list(islice(search.fused, REALIGNED))) for search in searches if search.phrases and search.fused]
    answers = ports.index.align([(search.phrases, ids) for search, ids in asked]) if asked else []
    for (search, _), scores in zip(asked, answers, strict=True):
        points = best_points(scores)
        found_weight = sum(search.weights[leg] for leg in search.found)
        search.fused = realign(search.fused, points, found_weight, search.weights[Leg.FRAGMENTS])
        search.found[Leg.FRAGMENTS] = points


def _keep_named(search: _Search, ports: Ports) -> None:
    """Those of the compounds that the query names which the filter lets through."""
    if not search.understood.named:
        return
    ids = [point_id(library, inchikey) for library, inchikey in search.understood.named]
    passing = {point.id for points in search.found.values() for point in points}
    if unseen := [id for id in ids if id not in passing]:
        passing.update(ports.index.select(search.query.within, search.query.filter, unseen))
    search.named = [id for id in ids if id in passing]


def _page(search: _Search, ports: Ports, timings: Timings, judge: MatchJudge | None) -> SearchPage:
    query = search.query
    by_words = search.understood.interpretation.kind is Kind.TEXT
    end = query.offset + query.limit
    scores = search.fused
    with timings.stage("fuse"):
        order = [*search.named, *(id for id in scores if id not in search.named)] if search.named else list(scores)
        page = order[query.offset : end]
        said = leg_scores(search.found, _further(search, page, ports), search.weights, page)
    with timings.stage("show"):
        documents = ports.index.documents(page)
        words = query_words(search.understood.text)
        # A compound that was deleted since it was found is left out.
        compounds = {point: compound_of(documents[point]) for point in page if point in documents}
        atoms = matched_atoms(search.patterns, compounds, ports)
        hits = [
            Hit(
                rank,
                scores.get(point, 0.0) + (NAMED_BONUS if point in search.named else 0.0),
                compounds[point],
                said[point],
                matched_words(words, compounds[point]),
                atoms.get(point, ()),
            )
            for rank, point in enumerate(page, query.offset + 1)
            if point in compounds
        ]
    return SearchPage(
        hits,
        end < min(len(order), search.reach),
        ports.index.model_version,
        timings.seconds,
        search.understood.interpretation,
        no_good_match=not order or (by_words and judge is not None and judge.no_good_match(search.found, search.understood.text)),
        end=end,
        reach=search.reach,
    )


def _listed(search: _Search, ports: Ports) -> dict[UUID, float]:
    """What meets the filter as far as the page reaches, in the order of the points: nothing ranks it."""
    return dict.fromkeys(islice(ports.index.select(search.query.within, search.query.filter), search.depth), 0.0)


def _further(search: _Search, page: Sequence[UUID], ports: Ports) -> dict[Leg, dict[UUID, float]]:
    """Scores of hits in legs that did not reach them."""
    shown = {id.int for id in page}
    reached = {leg: shown.intersection(point.id.int for point in points) for leg, points in search.found.items()}
    missing = {leg: [id for id in page if id.int not in reached[leg]] for leg in search.found}
    fingerprints = missing.pop(Leg.FINGERPRINTS, [])
    further: dict[Leg, dict[UUID, float]] = {}
    if fragments := missing.pop(Leg.FRAGMENTS, []):
        [further[Leg.FRAGMENTS]] = ports.index.align([(search.phrases, fragments)])
    if fingerprints:
        further[Leg.FINGERPRINTS] = dict(ports.structures.tanimoto(search.understood.fingerprint, fingerprints))
    questions = [search.questions[leg] for leg, ids in missing.items() if ids]
    if not questions:
        return further
    ids = list({id for ids in missing.values() for id in ids})
    answers = ports.index.search_legs(questions, len(ids), only=ids)
    for question, points in zip(questions, answers, strict=True):
        further[question.leg] = {point.id: point.score for point in points}
    return further


def _grouped(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def query_words(text: str) -> list[str]:
    """The telling words of a query, lower-case, in order."""
    return list(dict.fromkeys(word for word in re.findall(r"\w[\w'-]{2,}", text.lower()) if word not in _COMMON))


def matched_words(words: Sequence[str], compound: Compound) -> list[str]:
    """Those of the words that the compound's names and texts contain, plural or not."""
    said = set(re.findall(r"\w[\w'-]{2,}", " ".join((compound.display_name, *compound.synonyms, *compound.descriptions)).lower()))
    return [word for word in words if word in said or word.removesuffix("s") in said or f"{word}s" in said]
