"""The blocking client."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar, Unpack, cast

import grpc

from atomas import calls, explaining, generating, importing, key_calls, model_calls, streams
from atomas.calls import Call, Page, SearchOptions
from atomas.channel import overload_delay_seconds, resolve_address
from atomas.credentials import CallMetadata, Credentials, open_channel
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
from atomas.waiting import OperationWatch, checked, report

Result = TypeVar("Result")


class Client:
    """Calls an Atomas service and waits for each answer. Thread-safe; use it as a context manager or close it.

    `address` is `host:port` (ATOMAS_ADDRESS, else 127.0.0.1:50051). `timeout_seconds` is the deadline of each call with its
    retries; imports and `wait` go on as long as there is progress. `api_key` is a secret (else
    ATOMAS_API_KEY), `credentials` add TLS. `metadata` is asked before each call for more to send
    with it, such as a trace's `traceparent`. Whatever service, network or
    file refuse is raised as a subclass of AtomasError.
    """

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
        self._channel = open_channel(self.address, self._credentials, metadata)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; calls that are under way fail."""
        self._closed = True
        self._channel.close()

    # Libraries

    def create_library(self, library_id: str, *, name: str = "", description: str = "") -> Library:
        """Make an empty library; ids hold lower-case letters, digits and hyphens. Raises AlreadyExistsError."""
        return self._run(calls.create_library(library_id, name, description))

    def get_library(self, library: str | Library) -> Library:
        """The library with this id or resource name. Raises NotFoundError."""
        return self._run(calls.get_library(library))

    def libraries(self) -> Iterator[Library]:
        """Every library, by id."""
        return self._pages(calls.list_libraries)

    def update_library(self, library: str | Library, *, name: str | None = None, description: str | None = None) -> Library:
        """Change what is not None."""
        return self._run(calls.update_library(library, name, description))

    def delete_library(self, library: str | Library, *, force: bool = False) -> None:
        """Delete a library; one that holds compounds only with `force`, else FailedPreconditionError."""
        self._run(calls.delete_library(library, force))

    # Compounds

    def get_compound(self, compound: str | Compound, library: str | Library | None = None) -> Compound:
        """A compound by resource name, `library/INCHIKEY`, or InChIKey and library. Raises NotFoundError."""
        return self._run(calls.get_compound(compound, library))

    def compounds(self, library: str | Library) -> Iterator[Compound]:
        """Every compound of a library, in a stable order."""
        return self._pages(lambda token: calls.list_compounds(library, token))

    def export(
        self,
        library: str | Library,
        *,
        filter: str = "",
        fields: Sequence[str] | None = None,
        molblocks: bool = False,
        on_progress: Callable[[ExportProgress], None] | None = None,
    ) -> Iterator[Compound]:
        """Every compound of a library that meets the filter, in a stable order; a stream that breaks is opened anew and goes on from there.

        `fields` as in searches; `molblocks` draws each compound too. `atomas.writers.CompoundFile` puts them into a file.
        """
        session = ExportSession(library, filter, fields, molblocks, on_progress)
        while True:
            self._check_open()
            stream = streams.export_stream(self._channel)(session.request)
            try:
                for response in stream:
                    yield from session.received(response)
                return
            except grpc.RpcError as failure:
                delay_seconds = session.broke(from_rpc_error(failure, self.address))
            finally:
                stream.cancel()
            time.sleep(delay_seconds)

    def delete_compound(self, compound: str | Compound, library: str | Library | None = None) -> None:
        """Delete a compound, named as in `get_compound`."""
        self._run(calls.delete_compound(compound, library))

    # Search

    def search(self, query: str | None = None, *, limit: int = 10, **options: Unpack[SearchOptions]) -> SearchResult:
        """The `limit` best compounds for a query: words, a name, an id, an InChIKey or a structure; the result says how it was understood.

        Instead of a query: `text` (words only), `smiles`, `structure` or `compound`; see SearchOptions for the rest.
        """
        pages: list[SearchPage] = []
        request = calls.search_compounds(query, options)
        for page in self._search_pages(request, min(calls.check_limit(limit), calls.MAX_PAGE_SIZE)) if limit else ():
            pages.append(page)
            if sum(len(each.hits) for each in pages) >= limit:
                break
        return SearchResult.of(pages, limit)

    def search_pages(
        self, query: str | None = None, *, page_size: int = 100, page_token: str = "", **options: Unpack[SearchOptions]
    ) -> Iterator[SearchPage]:
        """As `search`, page by page for as long as the caller goes on; `page_token` of a former page goes on after it."""
        return self._search_pages(calls.search_compounds(query, options), page_size, page_token)

    def search_many(
        self, queries: Sequence[str | SearchOptions], *, limit: int = 10, **options: Unpack[SearchOptions]
    ) -> list[SearchAnswer]:
        """As `search` for many queries at once, several times faster; each has its result or its own error, in order.

        A query is a string, or SearchOptions where it is a structure or has options of its own; `options` hold for all of them.
        """
        return [answer for call in calls.search_batches(queries, limit, options) for answer in self._run(call)]

    def explain(
        self,
        text: str = "",
        *,
        compound: str | Compound | None = None,
        structure: str | None = None,
        substructure: str = "",
        draw: bool = False,
    ) -> Explanation:
        """Which words of a text point at which atoms of a stored compound or a structure; `substructure` marks atoms as well."""
        return self._run(explaining.explain(compound, structure, text, substructure, draw))

    # Generation

    def generate(
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
        operation = self._run(call)
        self._watch(operation, timeout_seconds, on_found)
        return self._run(generating.molecules_of(operation))

    def describe(
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
        operation = self._run(generating.describe_structure(structure, compound, library, count, ignore_library))
        self._watch(operation, timeout_seconds, on_found)
        return self._run(generating.descriptions_of(operation))

    # Vectors and models

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Unit vectors of texts, in order, in the space that structures share; an item that cannot be embedded says why."""
        return self._embed(calls.embed_texts, texts)

    def embed_structures(self, structures: Sequence[str]) -> Embeddings:
        """Unit vectors of SMILES, InChIs or molblocks; any spelling of a molecule gives the same."""
        return self._embed(calls.embed_structures, structures)

    def models(self) -> Iterator[Model]:
        return self._pages(calls.list_models)

    def model(self, name: str | Model = "-") -> Model:
        """The named model; by default the one that answers searches."""
        return self._run(calls.get_model(name))

    def reindex(self, path: str | os.PathLike[str]) -> Operation:
        """Fill the index of the model in this folder, as the server and its workers see it, while the present one goes on answering.

        Calling it again returns the same operation; see its `reindex`, or `wait` for it.
        """
        return self._run(model_calls.reindex(os.fspath(path)))

    def compare_models(self, name: str | Model, texts: Sequence[str] = (), *, limit: int = 10) -> ModelComparison:
        """What a filled model answers beside the serving one; by names of stored compounds where no texts are given."""
        return self._run(model_calls.compare_models(name, texts, limit))

    def activate_model(self, name: str | Model) -> Model:
        """Let a filled model answer from now on; the former one is kept, and activating it again rolls back."""
        return self._run(model_calls.activate_model(name))

    def delete_model(self, name: str | Model) -> None:
        """Remove the index of a model that does not answer."""
        self._run(model_calls.delete_model(name))

    # API keys

    def create_api_key(self, scopes: Mapping[str, AccessLevel | str], *, name: str = "", expire_time: datetime | None = None) -> NewApiKey:
        """Make a key with a level for each library, such as `{"chebi": "read"}`; `-` stands for every library. Its secret is told this once."""
        return self._run(key_calls.create_api_key(scopes, name, expire_time))

    def api_keys(self) -> Iterator[ApiKey]:
        """Every key, the revoked ones too."""
        return self._pages(key_calls.list_api_keys)

    def revoke_api_key(self, key: str | ApiKey) -> ApiKey:
        """End a key at once, by its prefix. Raises NotFoundError."""
        return self._run(key_calls.revoke_api_key(key))

    # Operations

    def operations(self) -> Iterator[Operation]:
        """Every operation, newest first."""
        return self._pages(calls.list_operations)

    def operation(self, name: str | Operation) -> Operation:
        """The operation as it stands now."""
        return self._run(calls.get_operation(name))

    def wait(
        self, operation: str | Operation, *, timeout_seconds: float | None = None, on_progress: Callable[[Operation], None] | None = None
    ) -> Operation:
        """Returns when the operation is done, and rides out restarts of the service.

        Raises OperationFailedError when it failed, DeadlineExceededError when `timeout_seconds` are over; a cancelled one is returned.
        """
        watch = OperationWatch(timeout_seconds)
        while True:
            try:
                current = self.operation(operation)
            except AtomasError as error:
                delay_seconds = watch.missed(error, calls.operation_name(operation))
            else:
                if on_progress:
                    on_progress(current)
                if current.done:
                    return checked(current)
                delay_seconds = watch.seen(current)
            time.sleep(delay_seconds)

    def cancel(self, operation: str | Operation) -> None:
        """Ask an operation to stop; what it has done stays."""
        self._run(calls.cancel_operation(operation))

    def rejections(self, operation: str | Operation) -> Iterator[Rejection]:
        """Rows that an import rejected, in source order."""
        return self._pages(lambda token: calls.list_rejections(operation, token))

    # Import

    def import_compounds(
        self,
        rows: Iterable[RowLike] | str | os.PathLike[str],
        library: str | Library,
        *,
        format: Format | str = Format.AUTO,
        create_library: bool = True,
        wait: bool = True,
        source: str = "",
        request_id: str | None = None,
        on_progress: Callable[[ImportProgress], None] | None = None,
    ) -> ImportReport:
        """Import a file (a path: str or PathLike), or rows: Row values, mappings such as JSON Lines hold, or SMILES strings.

        Rows are acknowledged once they are durable; a broken connection is opened anew and goes on from there. With `wait`
        returns when every row has its verdict and can be searched, without it when every row is acknowledged.
        `source` names the rows for people; `request_id`, a UUID, makes a second call go on with the first one's import.
        Raises ReaderError for a file that cannot be read; rows before the fault stay imported.
        """
        with ExitStack() as stack:
            file = stack.enter_context(Source(rows, format)) if isinstance(rows, str | os.PathLike) else None
            stream = file if file is not None else cast(Iterable[RowLike], rows)
            session = ImportSession(
                calls.library_name(library),
                source=source or (file.name if file else ""),
                create_library=create_library,
                request_id=request_id,
            )
            notify = importing.Notifier(session, file, on_progress)
            self._check_open()
            with importing.damage_told(session):
                streams.send_rows(self._channel, self.address, session, importing.batches(stream), notify.sending)
        if not wait:
            return report(self.operation(session.operation), session.rows)
        return report(self.wait(session.operation, on_progress=notify.processing), session.rows)

    # The service

    def health(self, service: str = "") -> Health:
        """Whether the whole service, or the named gRPC service, takes calls. Raises UnavailableError when it cannot be reached."""
        return self._run(calls.check_health(service))

    def _run(self, call: Call[Result]) -> Result:
        deadline = time.monotonic() + self.timeout_seconds
        attempt = 0
        while True:
            self._check_open()
            attempt += 1
            invoke = self._channel.unary_unary(call.path, request_serializer=call.serialize, response_deserializer=call.parse)
            try:
                answer, said = invoke.with_call(call.request, timeout=max(0.0, deadline - time.monotonic()))
                return call.result(answer, said.trailing_metadata() if call.timed else ())
            except grpc.RpcError as failure:
                error = from_rpc_error(failure, self.address)
            delay_seconds = overload_delay_seconds(error, attempt, deadline - time.monotonic())
            if delay_seconds is None:
                raise error
            time.sleep(delay_seconds)

    def _watch(self, operation: str, timeout_seconds: float | None, on_found: Callable[[Found], None] | None) -> None:
        watch = Watch(operation, timeout_seconds)
        try:
            while True:
                stream = generating.watch_stream(self._channel)(watch.begin(), timeout=watch.seconds_left)
                try:
                    for response in stream:
                        found = watch.received(response)
                        if found is not None and on_found is not None:
                            on_found(found)
                    return
                except grpc.RpcError as failure:
                    delay_seconds = watch.broke(from_rpc_error(failure, self.address))
                finally:
                    stream.cancel()
                time.sleep(delay_seconds)
        except BaseException:
            # Nobody waits for it any more.
            with suppress(AtomasError):
                self.cancel(operation)
            raise

    def _pages(self, list_page: Callable[[str], Call[Page[Result]]]) -> Iterator[Result]:
        token = ""
        while True:
            page = self._run(list_page(token))
            yield from page.items
            if not (token := page.next_page_token):
                return

    def _search_pages(self, query: calls.Query, page_size: int, token: str = "") -> Iterator[SearchPage]:
        while True:
            page = self._run(query.page(page_size, token))
            yield page
            if not (token := page.next_page_token):
                return

    def _embed(self, call: Callable[[Sequence[str]], Call[Embeddings]], items: Sequence[str]) -> Embeddings:
        return calls.joined([self._run(call(batch)) for batch in calls.embed_batches(items)])

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("This client was closed; make a new one.", reason="CLIENT_CLOSED")
