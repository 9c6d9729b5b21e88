"""The portal: static files, each page with a policy that forbids every request to elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

STATIC = Path(__file__).resolve().parent / "static"
_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; frame-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The structure editor writes scripts and styles into its own page; there it is alone, and may ask for nothing but its own files.
_SKETCHER = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; frame-src 'self'; "
    "img-src 'self' data: blob:; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def portal() -> ASGIApp:
    """Serves the pages."""
    return Starlette(
        routes=[Mount("/", _Pages(directory=STATIC, html=True))],
        middleware=[Middleware(GZipMiddleware, minimum_size=2_000, compresslevel=6)],
        exception_handlers={HTTPException: _refused},
    )


class _Pages(StaticFiles):
    """Files with their policies; browsers ask whether one has changed, and get it only then."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_headers(Path(full_path).relative_to(STATIC).as_posix()))
        return response


def _headers(path: str) -> Mapping[str, str]:
    headers = {"Cache-Control": "no-cache"}
    if path.endswith(".html"):
        headers["Content-Security-Policy"] = _SKETCHER if path.startswith("sketcher/") else _PAGE
    return headers


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return PlainTextResponse("There is no such page. The portal is at /\n" if status == 404 else f"{error}\n", status)
