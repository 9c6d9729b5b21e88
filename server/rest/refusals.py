"""Refusals over HTTP: google.rpc.Status as JSON with the reasons of gRPC, and an HTTP status that fits."""

import math
from collections.abc import Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from starlette.responses import JSONResponse

from server.rpc.errors import DOMAIN

# As google.rpc.Code recommends.
HTTP_STATUS: Mapping[StatusCode, int] = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
}


class RefusedError(Exception):
    """A call that ended with a refusal; the response tells it."""

    def __init__(self, status: Status, http_status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.message)
        self.status = status
        self.http_status = http_status
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """`{"code", "message", "details"}`, where a detail of type ErrorInfo holds the reason."""
        headers = dict(self.headers)
        retry = RetryInfo()
        if any(detail.Unpack(retry) for detail in self.status.details):
            headers["Retry-After"] = str(max(1, math.ceil(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)))
        if self.http_status == HTTP_STATUS[StatusCode.UNAUTHENTICATED]:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(MessageToDict(self.status), self.http_status, headers)


def refused_by_service(code: StatusCode, status: Status, request_id: str) -> RefusedError:
    """A refusal of a method, as gRPC would carry it."""
    return RefusedError(status, HTTP_STATUS[code], {"X-Request-ID": request_id})


def refused_by_gateway(
    http_status: int, code: StatusCode, reason: str, message: str, headers: Mapping[str, str] | None = None
) -> RefusedError:
    """A refusal before any method is reached: its reason is one that only HTTP has."""
    status = Status(code=code.value[0], message=message)
    packed = Any()
    packed.Pack(ErrorInfo(reason=reason, domain=DOMAIN))
    status.details.append(packed)
    return RefusedError(status, http_status, headers)
