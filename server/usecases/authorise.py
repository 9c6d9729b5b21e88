"""Who is calling, and what of the service that caller may see."""

from contextvars import ContextVar
from datetime import UTC, datetime

from server.domain.access import ANYONE, EVERY_LIBRARY, Caller, Level, denied, prefix_of
from server.domain.errors import AtomasError, Reason
from server.domain.libraries import Library
from server.domain.operations import Operation
from server.ports import Database, Ports, Trust

# Of the call that is being worked on; copied to the threads that work on it. Without one nothing is allowed.
CALLER: ContextVar[Caller] = ContextVar("caller")


def identify(credential: str, database: Database, trust: Trust) -> Caller:
    """Whom an API key's secret or a token belongs to. Raises UNAUTHENTICATED, with one message whatever is wrong with it.

    Reads the database on each call, so that a revoked key ends with its revocation.
    """
    if not trust.required:
        return ANYONE
    prefix = prefix_of(credential)
    if prefix is not None:
        try:
            with database.reading() as transaction:
                key = transaction.api_keys.get(prefix)
        except AtomasError as error:
            if error.reason is not Reason.API_KEY_NOT_FOUND:
                raise
        else:
            if trust.hashes.verify(key.secret_hash, credential) and key.valid_at(datetime.now(UTC)):
                return key.caller
    elif trust.tokens is not None and credential and (caller := trust.tokens.caller(credential)) is not None:
        return caller
    raise AtomasError(
        Reason.UNAUTHENTICATED, "The service does not know who is calling: send a valid API key as `authorization: Bearer SECRET`."
    )


def may(level: Level, library: str = EVERY_LIBRARY) -> bool:
    """Whether the present caller has the level in the library."""
    caller = CALLER.get(None)
    return caller is not None and caller.may(level, library)


def visible_libraries(ports: Ports) -> list[Library] | None:
    """The libraries that the present caller may read, by id; None for all there are."""
    caller = CALLER.get(None)
    allowed = [] if caller is None else caller.libraries(Level.READ)
    if allowed is None:
        return None
    found = []
    with ports.database.reading() as transaction:
        for library in allowed:
            try:
                found.append(transaction.libraries.get(library))
            except AtomasError as error:
                if error.reason is not Reason.LIBRARY_NOT_FOUND:
                    raise
    return found


def require_operation(operation_id: str, level: Level, ports: Ports) -> None:
    """Raises PERMISSION_DENIED unless the present caller has the level in the operation's library: also where there is no such operation."""
    if may(level):
        return
    try:
        with ports.database.reading() as transaction:
            library = transaction.operations.get(operation_id).library
    except AtomasError as error:
        if error.reason is not Reason.OPERATION_NOT_FOUND:
            raise
        raise denied() from None
    if not may(level, library):
        raise denied()


def visible_operations(before: str, limit: int, ports: Ports) -> list[Operation]:
    """Newest first, those of libraries that the present caller may read, from the one after the operation with the id `before`."""
    if before:
        require_operation(before, Level.READ, ports)
    found: list[Operation] = []
    while len(found) < limit:
        with ports.database.reading() as transaction:
            step = transaction.operations.page(before, limit)
        found += [operation for operation in step if may(Level.READ, operation.library)]
        if len(step) < limit:
            break
        before = step[-1].id
    return found[:limit]
