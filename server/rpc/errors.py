"""The one table from reasons to gRPC codes, and a refusal's way onto the wire."""

from collections.abc import Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from server.domain.errors import AtomasError, Reason

DOMAIN = "atomas"
# How long callers are asked to wait, where the refusal does not say. A quota is not waited for: somebody has to make room.
RETRY_SECONDS: Mapping[Reason, float] = {Reason.OVERLOADED: 1.0, Reason.RATE_LIMITED: 1.0}
RETRY_DETAIL = "retry_seconds"

_INVALID, _PRECONDITION, _MISSING = StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION, StatusCode.NOT_FOUND
_BUSY, _AWAY = StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE

CODES: dict[Reason, StatusCode] = {
    Reason.EMPTY_QUERY: _INVALID,
    Reason.TEXT_TOO_LONG: _INVALID,
    Reason.INVALID_ARGUMENT: _INVALID,
    Reason.INVALID_NAME: _INVALID,
    Reason.INVALID_FILTER: _INVALID,
    Reason.UNKNOWN_FIELD: _INVALID,
    Reason.INVALID_PAGE_TOKEN: _INVALID,
    Reason.STALE_PAGE_TOKEN: _PRECONDITION,
    Reason.TOO_MANY_ITEMS: _INVALID,
    Reason.EMPTY: _INVALID,
    Reason.INVALID_SMILES: _INVALID,
    Reason.INVALID_INCHI: _INVALID,
    Reason.INVALID_MOLBLOCK: _INVALID,
    Reason.INVALID_SMARTS: _INVALID,
    Reason.UNSUPPORTED: _INVALID,
    Reason.TOO_LARGE: _INVALID,
    Reason.TIMEOUT: _INVALID,
    Reason.CRASHED: _INVALID,
    Reason.UNREADABLE: _INVALID,
    Reason.LIBRARY_NOT_FOUND: _MISSING,
    Reason.LIBRARY_EXISTS: StatusCode.ALREADY_EXISTS,
    Reason.LIBRARY_NOT_EMPTY: _PRECONDITION,
    Reason.COMPOUND_NOT_FOUND: _MISSING,
    Reason.OPERATION_NOT_FOUND: _MISSING,
    Reason.MODEL_NOT_FOUND: _MISSING,
    Reason.MODEL_NOT_READY: _PRECONDITION,
    Reason.IMPORT_GAP: StatusCode.OUT_OF_RANGE,
    Reason.IMPORT_INCOMPLETE: _PRECONDITION,
    Reason.IMPORT_CLOSED: _PRECONDITION,
    Reason.IMPORT_PROTOCOL: _INVALID,
    Reason.UNAUTHENTICATED: StatusCode.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED: StatusCode.PERMISSION_DENIED,
    Reason.API_KEY_NOT_FOUND: _MISSING,
    Reason.RATE_LIMITED: _BUSY,
    Reason.QUOTA_EXCEEDED: _BUSY,
    Reason.OVERLOADED: _BUSY,
    Reason.DISK_FULL: _BUSY,
    Reason.DATA_DIR_IN_USE: _PRECONDITION,
    Reason.SCHEMA_MISMATCH: _PRECONDITION,
    Reason.INDEX_UNAVAILABLE: _AWAY,
    Reason.ENCODER_UNAVAILABLE: _AWAY,
    Reason.DATABASE_UNAVAILABLE: _AWAY,
    Reason.AUDIT_UNAVAILABLE: _AWAY,
    Reason.DEADLINE_EXCEEDED: StatusCode.DEADLINE_EXCEEDED,
    Reason.INTERNAL: StatusCode.INTERNAL,
}


def code_of(reason: Reason) -> StatusCode:
    """The gRPC code under which a reason travels."""
    return CODES[reason]


def status_of(error: AtomasError, request_id: str = "") -> Status:
    """The refusal as google.rpc.Status with ErrorInfo, and RetryInfo where trying again helps."""
    info = ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=dict(error.details))
    if request_id:
        info.metadata["request_id"] = request_id
    status = Status(code=code_of(error.reason).value[0], message=error.message)
    details: list[Message] = [info]
    if error.reason in RETRY_SECONDS:
        seconds = float(error.details.get(RETRY_DETAIL, RETRY_SECONDS[error.reason]))
        details.append(RetryInfo(retry_delay=Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))))
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def cancelled(message: str) -> Status:
    """The error of an operation that ended because somebody wished so."""
    return Status(code=StatusCode.CANCELLED.value[0], message=message)


def failed(error: tuple[str, str] | None, otherwise: str) -> Status:
    """The error of an operation that failed, from its reason and message; `otherwise` is said where nobody noted why."""
    reason, message = error or (Reason.INTERNAL.value, otherwise)
    return status_of(AtomasError(Reason(reason), message))
