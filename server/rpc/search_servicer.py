"""SearchService: words or a structure in, ranked compounds out."""

from typing import Any

from atomas.v1 import search_service_pb2 as pb
from atomas.v1.search_service_pb2_grpc import SearchServiceServicer
from server.domain.errors import AtomasError, Reason
from server.domain.search import VECTOR_LEGS, Leg, Query
from server.ports import Ports
from server.rpc import convert, names, page_tokens
from server.rpc.calls import Calls
from server.rpc.paging import page_size
from server.settings import Settings
from server.usecases.search_compounds import MAX_DEPTH, search_compounds

_TARGETS = {
    pb.SearchCompoundsRequest.MOLECULES: frozenset({Leg.MOLECULES}),
    pb.SearchCompoundsRequest.TEXTS: frozenset({Leg.TEXTS}),
}
TIMINGS = "atomas-timings"
SHALLOW_PAGE, SHALLOW_REACH, DEEP_REACH = 100, 250, 1_000


class SearchServicer(SearchServiceServicer):
    """Converts, calls, converts back."""

    def __init__(self, ports: Ports, calls: Calls, settings: Settings) -> None:
        self._ports = ports
        self._calls = calls
        self._settings = settings

    async def SearchCompounds(self, request: pb.SearchCompoundsRequest, context: Any) -> pb.SearchCompoundsResponse:
        """Stage timings come back in the trailing metadata, as seconds."""
        scope = page_tokens.scope_of(request, self._ports.index.model_version)
        size = page_size(request.page_size, 10)
        legs = _legs(request)
        offset, reach = _place(page_tokens.decode(request.page_token, scope), size, len(legs))
        size = min(size, reach - offset)
        convert.check_mask(request.read_mask)
        page = await self._calls.run(
            search_compounds,
            _query(request, legs, size, offset, reach),
            request.filter,
            self._ports,
            max_text_characters=self._settings.max_text_characters,
            timeout_seconds=context.time_remaining(),
        )
        context.set_trailing_metadata(((TIMINGS, ",".join(f"{stage};{seconds:.6f}" for stage, seconds in page.timings_seconds.items())),))
        return pb.SearchCompoundsResponse(
            hits=[convert.hit_message(hit, request.read_mask) for hit in page.hits],
            next_page_token=page_tokens.encode(f"{offset + size} {reach}", scope) if page.more else "",
            model=f"models/{page.model_version}",
        )


def _legs(request: pb.SearchCompoundsRequest) -> frozenset[Leg]:
    """Words are compared with molecules and texts, structures with molecules, unless the target says otherwise."""
    return _TARGETS.get(request.target) or (frozenset(VECTOR_LEGS) if request.HasField("text") else frozenset({Leg.MOLECULES}))


def _place(cursor: str, size: int, legs: int) -> tuple[int, int]:
    """Where the page begins and how far pages reach: whoever asks for large pages of a fused search may read further, at a price."""
    if cursor:
        offset, reach = cursor.split()
        return int(offset), int(reach)
    if legs == 1:
        return 0, MAX_DEPTH
    return 0, SHALLOW_REACH if size <= SHALLOW_PAGE else DEEP_REACH


def _query(request: pb.SearchCompoundsRequest, legs: frozenset[Leg], limit: int, offset: int, reach: int) -> Query:
    kind = request.WhichOneof("asked")
    if kind is None:
        raise AtomasError(Reason.EMPTY_QUERY, "The query is empty: give a text, a structure or a compound.")
    return Query(
        library=names.library_id_or_any(request.parent),
        text=request.text if kind == "text" else None,
        structure=request.structure if kind == "structure" else None,
        compound=names.compound_ids(request.compound) if kind == "compound" else None,
        legs=legs,
        limit=limit,
        offset=offset,
        reach=reach,
    )
