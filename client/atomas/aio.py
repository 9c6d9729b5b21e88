"""The asyncio client: the blocking one's methods, awaited."""

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar, Unpack, cast

import grpc

from atomas import calls, explaining, generating, importing, key_calls, model_calls, streams
from atomas.calls import Call, Page, SearchOptions
from atomas.channel import overload_delay_seconds, resolve_address
from atomas.credentials import CallMetadata, Credentials, open_aio_channel
from atomas.errors import AtomasError, UnavailableError, from_rpc_error
from atomas.explaining import Explanation
from atomas.exporting import ExportSession
from atomas.generating import Found, GeneratedDescriptions, GeneratedMolecules, Watch
from atomas.importing import ImportSession, RowLike
from atomas.keys import AccessLevel, ApiKey, NewApiKey
from atomas.readers import Format, Source
from atomas.types import (
    Compound,
    Embeddings,
    ExportProgress,
    Health,
    ImportProgress,
    ImportReport,
    Library,
    Model,
    ModelComparison,
    Operation,
    Rejection,
    SearchAnswer,
    SearchPage,
    SearchResult,
)
from atomas.v1.library_service_pb2 import ImportRow
from atomas.waiting import OperationWatch, checked, report

Result = TypeVar("Result")


class AsyncClient:
    """Calls an Atomas service from one event loop; arguments, results and errors are those of `Client`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        api_key: str | None = None,
        credentials: Credentials | None = None,
        metadata: CallMetadata | None = None,
    ) -> None:
        self.address = resolve_address(address)
        self.timeout_seconds = timeout_seconds
        self._credentials = (credentials or Credentials.from_environment()).with_api_key(api_key)
        self._metadata = metadata
        self._open_channel: grpc.aio.Channel | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls that are under way fail."""
        self._closed = True
        if self._open_channel is not None:
            await self._open_channel.close()

    # Libraries

    async def create_library(self, library_id: str, *, name: str = "", description: str = "") -> Library:
        return await self._run(calls.create_library(library_id, name, description))

    async def get_library(self, library: str | Library) -> Library:
        return await self._run(calls.get_library(library))

    def libraries(self) -> AsyncIterator[Library]:
        return self._pages(calls.list_libraries)

    async def update_library(self, library: str | Library, *, name: str | None = None, description: str | None = None) -> Library:
        return await self._run(calls.update_library(library, name, description))

    async def delete_library(self, library: str | Library, *, force: bool = False) -> None:
        await self._run(calls.delete_library(library, force))

    # Compounds

    async def get_compound(self, compound: str | Compound, library: str | Library | None = None) -> Compound:
        return await self._run(calls.get_compound(compound, library))

    def compounds(self, library: str | Library) -> AsyncIterator[Compound]:
        return self._pages(lambda token: calls.list_compounds(library, token))

    async def export(
        self,
        library: str | Library,
        *,
        filter: str = "",
        fields: Sequence[str] | None = None,
        molblocks: bool = False,
        on_progress: Callable[[ExportProgress], None] | None = None,
    ) -> AsyncIterator[Compound]:
        session = ExportSession(library, filter, fields, molblocks, on_progress)
        while True:
            stream = streams.export_stream(self._channel())(session.request)
            try:
                async for response in stream:
                    for compound in session.received(response):
                        yield compound
                return
            except grpc.RpcError as failure:
                delay_seconds = session.broke(from_rpc_error(failure, self.address))
            finally:
                stream.cancel()
            await asyncio.sleep(delay_seconds)

    async def delete_compound(self, compound: str | Compound, library: str | Library | None = None) -> None:
        await self._run(calls.delete_compound(compound, library))

    # Search

    async def search(self, query: str | None = None, *, limit: int = 10, **options: Unpack[SearchOptions]) -> SearchResult:
        pages: list[SearchPage] = []
        request = calls.search_compounds(query, options)
        if calls.check_limit(limit):
            async for page in self._search_pages(request, min(limit, calls.MAX_PAGE_SIZE)):
                pages.append(page)
                if sum(len(each.hits) for each in pages) >= limit:
                    break
        return SearchResult.of(pages, limit)

    def search_pages(
        self, query: str | None = None, *, page_size: int = 100, page_token: str = "", **options: Unpack[SearchOptions]
    ) -> AsyncIterator[SearchPage]:
        return self._search_pages(calls.search_compounds(query, options), page_size, page_token)

    async def search_many(
        self, queries: Sequence[str | SearchOptions], *, limit: int = 10, **options: Unpack[SearchOptions]
    ) -> list[SearchAnswer]:
        return [answer for call in calls.search_batches(queries, limit, options) for answer in await self._run(call)]

    # Generation

    async def generate(
        self,
        text: str,
        *,
        library: str | Library | None = None,
        count: int = 20,
        filter: str = "",
        seed: int = 0,
        max_attempts: int = 0,
        keep_order: bool = False,
        ignore_library: bool = False,
        timeout_seconds: float | None = None,
        on_found: Callable[[Found], None] | None = None,
    ) -> GeneratedMolecules:
        """New molecules that a text describes, best aligned first; `on_found` sees each as it is found.

        Novelty is judged by `library`, or by all. A call that is interrupted or out of time cancels the generation.
        """
        call = generating.generate_molecules(text, library, count, filter, seed, max_attempts, keep_order, ignore_library)
        operation = await self._run(call)
        await self._watch(operation, timeout_seconds, on_found)
        return await self._run(generating.molecules_of(operation))

    async def describe(
        self,
        structure: str | None = None,
        *,
        compound: str | Compound | None = None,
        library: str | Library | None = None,
        count: int = 1,
        ignore_library: bool = False,
        timeout_seconds: float | None = None,
        on_found: Callable[[Found], None] | None = None,
    ) -> GeneratedDescriptions:
        """Words for a structure or a stored compound, written beside the texts of alike compounds of the library, which the answer cites."""
        operation = await self._run(generating.describe_structure(structure, compound, library, count, ignore_library))
        await self._watch(operation, timeout_seconds, on_found)
        return await self._run(generating.descriptions_of(operation))

    # Vectors and models

    async def explain(
        self,
        text: str = "",
        *,
        compound: str | Compound | None = None,
        structure: str | None = None,
        substructure: str = "",
        draw: bool = False,
    ) -> Explanation:
        """Which words of a text point at which atoms of a stored compound or a structure; `substructure` marks atoms as well."""
        return await self._run(explaining.explain(compound, structure, text, substructure, draw))

    async def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        return await self._embed(calls.embed_texts, texts)

    async def embed_structures(self, structures: Sequence[str]) -> Embeddings:
        return await self._embed(calls.embed_structures, structures)

    def models(self) -> AsyncIterator[Model]:
        return self._pages(calls.list_models)

    async def model(self, name: str | Model = "-") -> Model:
        return await self._run(calls.get_model(name))

    async def reindex(self, path: str | os.PathLike[str]) -> Operation:
        return await self._run(model_calls.reindex(os.fspath(path)))

    async def compare_models(self, name: str | Model, texts: Sequence[str] = (), *, limit: int = 10) -> ModelComparison:
        return await self._run(model_calls.compare_models(name, texts, limit))

    async def activate_model(self, name: str | Model) -> Model:
        return await self._run(model_calls.activate_model(name))

    async def delete_model(self, name: str | Model) -> None:
        await self._run(model_calls.delete_model(name))

    # API keys

    async def create_api_key(
        self, scopes: Mapping[str, AccessLevel | str], *, name: str = "", expire_time: datetime | None = None
    ) -> NewApiKey:
        return await self._run(key_calls.create_api_key(scopes, name, expire_time))

    def api_keys(self) -> AsyncIterator[ApiKey]:
        return self._pages(key_calls.list_api_keys)

    async def revoke_api_key(self, key: str | ApiKey) -> ApiKey:
        return await self._run(key_calls.revoke_api_key(key))

    # Operations

    def operations(self) -> AsyncIterator[Operation]:
        return self._pages(calls.list_operations)

    async def operation(self, name: str | Operation) -> Operation:
        return await self._run(calls.get_operation(name))

    async def wait(
        self, operation: str | Operation, *, timeout_seconds: float | None = None, on_progress: Callable[[Operation], None] | None = None
    ) -> Operation:
        watch = OperationWatch(timeout_seconds)
        while True:
            try:
                current = await self.operation(operation)
            except AtomasError as error:
                delay_seconds = watch.missed(error, calls.operation_name(operation))
            else:
                if on_progress:
                    on_progress(current)
                if current.done:
                    return checked(current)
                delay_seconds = watch.seen(current)
            await asyncio.sleep(delay_seconds)

    async def cancel(self, operation: str | Operation) -> None:
        await self._run(calls.cancel_operation(operation))

    def rejections(self, operation: str | Operation) -> AsyncIterator[Rejection]:
        return self._pages(lambda token: calls.list_rejections(operation, token))

    # Import

    async def import_compounds(
        self,
        rows: Iterable[RowLike] | AsyncIterable[RowLike] | str | os.PathLike[str],
        library: str | Library,
        *,
        format: Format | str = Format.AUTO,
        create_library: bool = True,
        wait: bool = True,
        source: str = "",
        request_id: str | None = None,
        on_progress: Callable[[ImportProgress], None] | None = None,
    ) -> ImportReport:
        """As `Client.import_compounds`; rows may also come asynchronously. Files are read beside the event loop."""
        with ExitStack() as stack:
            file = stack.enter_context(Source(rows, format)) if isinstance(rows, str | os.PathLike) else None
            session = ImportSession(
                calls.library_name(library),
                source=source or (file.name if file else ""),
                create_library=create_library,
                request_id=request_id,
            )
            notify = importing.Notifier(session, file, on_progress)
            next_batch = _next_batch(file if file is not None else cast("Iterable[RowLike] | AsyncIterable[RowLike]", rows))
            with importing.damage_told(session):
                await streams.send_rows_async(self._channel(), self.address, session, next_batch, notify.sending)
        if not wait:
            return report(await self.operation(session.operation), session.rows)
        return report(await self.wait(session.operation, on_progress=notify.processing), session.rows)

    # The service

    async def health(self, service: str = "") -> Health:
        return await self._run(calls.check_health(service))

    def _channel(self) -> grpc.aio.Channel:
        if self._closed:
            raise UnavailableError("This client was closed; make a new one.", reason="CLIENT_CLOSED")
        if self._open_channel is None:
            # A channel belongs to the event loop that runs when it is made, so the first call makes it.
            self._open_channel = open_aio_channel(self.address, self._credentials, self._metadata)
        return self._open_channel

    async def _run(self, call: Call[Result]) -> Result:
        deadline = time.monotonic() + self.timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            invoke = self._channel().unary_unary(call.path, request_serializer=call.serialize, response_deserializer=call.parse)
            try:
                under_way = invoke(call.request, timeout=max(0.0, deadline - time.monotonic()))
                answer = await under_way
                return call.result(answer, await under_way.trailing_metadata() if call.timed else ())
            except grpc.RpcError as failure:
                error = from_rpc_error(failure, self.address)
            delay_seconds = overload_delay_seconds(error, attempt, deadline - time.monotonic())
            if delay_seconds is None:
                raise error
            await asyncio.sleep(delay_seconds)

    async def _watch(self, operation: str, timeout_seconds: float | None, on_found: Callable[[Found], None] | None) -> None:
        watch = Watch(operation, timeout_seconds)
        try:
            while True:
                stream = generating.watch_stream(self._channel())(watch.begin(), timeout=watch.seconds_left)
                try:
                    async for response in stream:
                        found = watch.received(response)
                        if found is not None and on_found is not None:
                            on_found(found)
                    return
                except grpc.RpcError as failure:
                    delay_seconds = watch.broke(from_rpc_error(failure, self.address))
                finally:
                    stream.cancel()
                await asyncio.sleep(delay_seconds)
        except BaseException:
            # Nobody waits for it any more.
            with suppress(AtomasError):
                await self.cancel(operation)
            raise

    async def _pages(self, list_page: Callable[[str], Call[Page[Result]]]) -> AsyncIterator[Result]:
        token = ""
        while True:
            page = await self._run(list_page(token))
            for item in page.items:
                yield item
            if not (token := page.next_page_token):
                return

    async def _search_pages(self, query: calls.Query, page_size: int, token: str = "") -> AsyncIterator[SearchPage]:
        while True:
            page = await self._run(query.page(page_size, token))
            yield page
            if not (token := page.next_page_token):
                return

    async def _embed(self, call: Callable[[Sequence[str]], Call[Embeddings]], items: Sequence[str]) -> Embeddings:
        return calls.joined([await self._run(call(batch)) for batch in calls.embed_batches(items)])


def _next_batch(rows: Source | Iterable[RowLike] | AsyncIterable[RowLike]) -> Callable[[], Awaitable[list[ImportRow]]]:
    """Gives the next batch, an empty one at the end, whichever way the rows come."""
    if isinstance(rows, AsyncIterable):
        arriving = streams.async_batches(rows)

        async def from_async() -> list[ImportRow]:
            return await anext(arriving, [])

        return from_async
    batches = importing.batches(rows)
    if isinstance(rows, Source):

        async def from_file() -> list[ImportRow]:
            return await asyncio.to_thread(next, batches, [])

        return from_file

    async def from_memory() -> list[ImportRow]:
        return next(batches, [])

    return from_memory
