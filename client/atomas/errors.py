"""The exceptions of the client; transport errors never leave it in any other form."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from atomas.types import Operation

_DOMAIN = "atomas"
_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "x-request-id"


class AtomasError(Exception):
    """Anything that went wrong between caller and service.

    `reason` is UPPER_SNAKE and stable, `message` one sentence for people, `details` what programs may want to know;
    `request_id` finds the call in the service's log and is empty when the call never got there.
    """

    def __init__(self, message: str, *, reason: str = "", details: Mapping[str, str] | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.details: Mapping[str, str] = dict(details or {})
        self.request_id = request_id
        # How long the service asks to be left alone before the same call; None when it did not say.
        self.retry_after_seconds: float | None = None


class InvalidArgumentError(AtomasError):
    """The request cannot be right, whatever the state of the service."""


class NotFoundError(AtomasError):
    """The library, compound, operation or model does not exist."""


class AlreadyExistsError(AtomasError):
    """The id is taken."""


class FailedPreconditionError(AtomasError):
    """The request does not fit the present state, such as deleting a library that is not empty."""


class AbortedError(AtomasError):
    """Something else changed the same thing at the same time; try again from the beginning."""


class UnauthenticatedError(AtomasError):
    """The service does not know who is calling."""


class PermissionDeniedError(AtomasError):
    """The caller is known, and may not do this."""


class OverloadedError(AtomasError):
    """The service is at its limit; `retry_after_seconds` says when to come back."""


class UnavailableError(AtomasError):
    """The service cannot be reached or cannot work now."""


class DeadlineExceededError(AtomasError):
    """The answer did not come in time; the service may still have done the work."""


class CancelledError(AtomasError):
    """The call was cancelled."""


class UnsupportedError(AtomasError):
    """The service is older than this client and does not know the call."""


class InternalError(AtomasError):
    """The service, or what lies between, is broken; `request_id` helps those who run it."""


class OperationFailedError(AtomasError):
    """A long-running operation that was waited for failed or was cancelled."""

    def __init__(self, message: str, *, reason: str, operation: "Operation") -> None:
        super().__init__(message, reason=reason)
        self.operation = operation


class ReaderError(AtomasError):
    """A file cannot be read, or not to its end.

    `rows_imported` rows before the fault are in the service and stay there; `operation` is the import that took them, if any.
    """

    def __init__(self, message: str, *, rows_imported: int = 0, operation: str = "") -> None:
        super().__init__(message, reason="UNREADABLE_FILE")
        self.rows_imported = rows_imported
        self.operation = operation


class WriterError(AtomasError):
    """A file cannot be written; nothing is left under its name."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="UNWRITABLE_FILE")


_BY_STATUS: Mapping[grpc.StatusCode, type[AtomasError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
}


def from_rpc_error(error: grpc.RpcError, address: str) -> AtomasError:
    """The typed exception for a failed call, read from its status, ErrorInfo, RetryInfo and RequestInfo."""
    # Errors of both the blocking and the asyncio API carry these; a bare RpcError carries nothing.
    call = error if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    code: grpc.StatusCode = call.code() if call else grpc.StatusCode.UNKNOWN
    text: str = (call.details() if call else "") or ""
    metadata: dict[str, str | bytes] = dict(call.trailing_metadata() or ()) if call else {}
    status = _status(metadata.get(_DETAILS_KEY))
    kind = _BY_STATUS.get(code, InternalError)
    reason, request_id = "", ""
    details: dict[str, str] = {}
    retry_after_seconds: float | None = None
    for packed in status.details:
        info, retry, request = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.RequestInfo()
        if packed.Unpack(info) and info.domain == _DOMAIN:
            reason, details = info.reason, dict(info.metadata)
            request_id = details.pop("request_id", request_id)
        elif packed.Unpack(retry):
            retry_after_seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif packed.Unpack(request):
            request_id = request.request_id
    header = metadata.get(_REQUEST_ID_KEY, b"")
    request_id = request_id or (header if isinstance(header, str) else header.decode(errors="replace"))
    if not reason and code is grpc.StatusCode.UNAVAILABLE:
        message = f"No Atomas service answers at {address}: start it with `python -m server`, or set ATOMAS_ADDRESS to where it runs."
        details = {"cause": text}
    elif not reason and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"The service at {address} did not answer in time; give the call a longer timeout, or try again."
    elif not reason and code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        # gRPC's own limit, refused before the service saw it: coming back later would not help.
        kind, reason = InvalidArgumentError, "MESSAGE_TOO_LARGE"
        message = f"A message is too large ({text}): ask for less at once."
    else:
        message = text or f"The service at {address} answered {code.name} without a word."
    translated = kind(message, reason=reason or code.name, details=details, request_id=request_id)
    translated.retry_after_seconds = retry_after_seconds
    return translated


def never_reached(error: AtomasError) -> bool:
    """Whether the network, not the service, refused: no reason of the service's own came with the error."""
    return isinstance(error, UnavailableError) and error.reason == grpc.StatusCode.UNAVAILABLE.name


def _status(packed: str | bytes | None) -> status_pb2.Status:
    """What the service said beside the status code; nothing when it is not there or not readable."""
    if not isinstance(packed, bytes):
        return status_pb2.Status()
    try:
        return status_pb2.Status.FromString(packed)
    except DecodeError:
        return status_pb2.Status()
