"""SearchService: words or a structure in, ranked compounds out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from atomas.v1 import search_service_pb2 as pb
from atomas.v1.search_service_pb2_grpc import SearchServiceServicer
from server.domain.access import Level, denied
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.domain.search import Leg, Query, SearchPage
from server.ports import Ports
from server.rpc import convert, names, page_tokens
from server.rpc.calls import Calls
from server.rpc.errors import status_of
from server.rpc.explanations import explanation_response
from server.rpc.paging import page_size
from server.settings import Settings
from server.usecases.authorise import may, visible_libraries
from server.usecases.explain_hit import Asked, explain_hit
from server.usecases.judge_match import MatchJudge
from server.usecases.search_compounds import search_compounds, search_many

_TARGETS = {
    pb.SearchCompoundsRequest.MOLECULES: frozenset({Leg.MOLECULES}),
    pb.SearchCompoundsRequest.TEXTS: frozenset({Leg.TEXTS}),
    pb.SearchCompoundsRequest.FINGERPRINTS: frozenset({Leg.FINGERPRINTS}),
}
TIMINGS = "atomas-timings"
MAX_SEARCHES = 1_000


@dataclass(frozen=True)
class _Asked:
    """A request of the contract, converted."""

    query: Query
    filter: str
    scope: page_tokens.Scope
    mask: FieldMask

    def response(self, page: SearchPage) -> pb.SearchCompoundsResponse:
        """The page, and the token of the next."""
        token = page_tokens.encode(f"{page.end} {page.reach}", self.scope) if page.more else ""
        return convert.search_response(page, token, self.mask)


class SearchServicer(SearchServiceServicer):
    """Converts, calls, converts back."""

    def __init__(self, ports: Ports, calls: Calls, settings: Settings) -> None:
        self._ports = ports
        self._calls = calls
        self._settings = settings
        self._judge = MatchJudge(ports)

    async def SearchCompounds(self, request: pb.SearchCompoundsRequest, context: Any) -> pb.SearchCompoundsResponse:
        """Stage timings come back in the trailing metadata, as seconds."""
        readable = None if may(Level.READ) else await self._calls.run(visible_libraries, self._ports)
        asked = self._asked(request, readable)
        page = await self._calls.run(
            search_compounds,
            asked.query,
            asked.filter,
            self._ports,
            max_text_characters=self._settings.max_text_characters,
            timeout_seconds=context.time_remaining(),
            judge=self._judge,
        )
        context.set_trailing_metadata(((TIMINGS, ",".join(f"{stage};{seconds:.6f}" for stage, seconds in page.timings_seconds.items())),))
        answer = asked.response(page)
        if "molblock" in request.read_mask.paths:
            await self._calls.run(self._draw, answer, page)
        return answer

    async def BatchSearchCompounds(self, request: pb.BatchSearchCompoundsRequest, context: Any) -> pb.BatchSearchCompoundsResponse:
        """Every search has its answer or its own error."""
        names.library_id_or_any(request.parent)
        if len(request.requests) > MAX_SEARCHES:
            raise AtomasError(
                Reason.TOO_MANY_ITEMS, f"{len(request.requests):,} searches in one call; send at most {MAX_SEARCHES:,}, in several calls."
            )
        return await self._calls.run(self._batch, request, context.time_remaining())

    def _batch(self, request: pb.BatchSearchCompoundsRequest, timeout_seconds: float | None) -> pb.BatchSearchCompoundsResponse:
        asked: list[_Asked | AtomasError] = []
        readable = visible_libraries(self._ports)
        for each in request.requests:
            try:
                asked.append(self._asked(_with_parent(each, request.parent), readable))
            except AtomasError as error:
                asked.append(error)
        good = [each for each in asked if isinstance(each, _Asked)]
        pages = iter(
            search_many(
                [(each.query, each.filter) for each in good],
                self._ports,
                max_text_characters=self._settings.max_text_characters,
                timeout_seconds=timeout_seconds,
                judge=self._judge,
            )
        )
        return pb.BatchSearchCompoundsResponse(
            results=[self._result(one, next(pages)) if isinstance(one, _Asked) else _failure(one) for one in asked]
        )

    def _result(self, asked: _Asked, page: SearchPage | AtomasError) -> pb.BatchSearchCompoundsResponse.Result:
        if isinstance(page, AtomasError):
            return _failure(page)
        answer = asked.response(page)
        if "molblock" in asked.mask.paths:
            self._draw(answer, page)
        return pb.BatchSearchCompoundsResponse.Result(response=answer)

    def _draw(self, answer: pb.SearchCompoundsResponse, page: SearchPage) -> None:
        """Puts a molblock to every hit that has a drawing."""
        blocks = self._ports.chemistry.molblocks([hit.compound.structure.smiles for hit in page.hits])
        for hit, block in zip(answer.hits, blocks, strict=True):
            if isinstance(block, str):
                hit.compound.molblock = block

    async def ExplainHit(self, request: pb.ExplainHitRequest, context: Any) -> pb.ExplainHitResponse:
        """Phrases, atoms and, where asked for, the drawing."""
        kind = request.WhichOneof("molecule")
        if kind is None:
            raise AtomasError(Reason.INVALID_ARGUMENT, "There is no molecule to explain: give a compound or a structure.")
        asked = Asked(
            compound=names.compound_ids(request.compound) if kind == "compound" else None,
            structure=request.structure,
            text=request.text,
            substructure=request.substructure,
            draw=request.draw,
        )
        found = await self._calls.run(
            explain_hit,
            asked,
            self._ports,
            max_text_characters=self._settings.max_text_characters,
            timeout_seconds=context.time_remaining(),
        )
        return explanation_response(found)

    def _asked(self, request: pb.SearchCompoundsRequest, readable: Sequence[Library] | None) -> _Asked:
        """`readable` are the libraries that the caller may see, None for all."""
        scope = page_tokens.scope_of(request, self._ports.index.model_version)
        size = page_size(request.page_size, 10)
        cursor = page_tokens.decode(request.page_token, scope)
        offset, reach = page_tokens.numbers(cursor, 2) if cursor else (0, None)
        convert.check_mask(request.read_mask)
        kind = request.WhichOneof("asked")
        if kind is None and not request.filter.strip():
            raise AtomasError(Reason.EMPTY_QUERY, "The query is empty: give a query, a text, a structure, a compound, or a filter alone.")
        query = Query(
            library=names.library_id_or_any(request.parent),
            text=request.text if kind == "text" else None,
            structure=request.structure if kind == "structure" else None,
            compound=names.compound_ids(request.compound) if kind == "compound" else None,
            anything=request.query if kind == "query" else None,
            libraries=_libraries(request, readable),
            legs=_TARGETS.get(request.target),
            weights=_weights(request),
            limit=size,
            offset=offset,
            reach=reach,
        )
        return _Asked(query, request.filter, scope, request.read_mask)


def _failure(error: AtomasError) -> pb.BatchSearchCompoundsResponse.Result:
    return pb.BatchSearchCompoundsResponse.Result(error=status_of(error))


def _with_parent(request: pb.SearchCompoundsRequest, parent: str) -> pb.SearchCompoundsRequest:
    """The request of a batch with the batch's parent. Raises INVALID_ARGUMENT for another one."""
    if request.parent and parent != f"libraries/{names.ANY}" and request.parent != parent:
        raise AtomasError(Reason.INVALID_ARGUMENT, f"The search is in {request.parent[:80]}, the batch in {parent[:80]}: name one of them.")
    if request.parent:
        return request
    complete = pb.SearchCompoundsRequest()
    complete.CopyFrom(request)
    complete.parent = parent
    return complete


def _libraries(request: pb.SearchCompoundsRequest, readable: Sequence[Library] | None) -> tuple[str, ...]:
    if request.libraries and request.parent != f"libraries/{names.ANY}":
        raise AtomasError(Reason.INVALID_ARGUMENT, f"Several libraries are searched with the parent libraries/{names.ANY}.")
    named = tuple(dict.fromkeys(names.library_id(name) for name in request.libraries))
    if readable is None or named or request.parent != f"libraries/{names.ANY}":
        return named
    if not readable:
        raise denied()
    # All of them are all that this caller may see.
    return tuple(library.id for library in readable)


def _weights(request: pb.SearchCompoundsRequest) -> dict[Leg, float]:
    unknown = sorted(set(request.leg_weights) - set(Leg))
    if unknown:
        known = ", ".join(Leg)
        raise AtomasError(Reason.INVALID_ARGUMENT, f"There is no leg {unknown[0][:40]!r} to weigh: the legs are {known}.")
    return {Leg(name): weight for name, weight in request.leg_weights.items()}
