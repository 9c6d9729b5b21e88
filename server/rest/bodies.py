"""Bodies of requests, as they come and up to a limit."""

from collections.abc import AsyncIterator

from grpc import StatusCode
from starlette.requests import ClientDisconnect, Request

from server.rest.refusals import refused_by_gateway


async def pieces(request: Request, limit: int, too_large: str) -> AsyncIterator[bytes]:
    """The body, piece by piece. Refused with the message `too_large` once it is longer than `limit` bytes, and when the caller leaves."""
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise refused_by_gateway(413, StatusCode.INVALID_ARGUMENT, "BODY_TOO_LARGE", too_large, {"Connection": "close"})
            yield piece
    except ClientDisconnect:
        raise refused_by_gateway(499, StatusCode.CANCELLED, "CANCELLED", "The caller has gone.") from None
