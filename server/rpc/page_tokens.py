"""Opaque page tokens, bound to the request they continue and to the model that ranked it."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from google.protobuf.message import Message

from server.domain.errors import AtomasError, Reason

_VERSION = 1
# Of numbers that every database stores.
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Scope:
    """What a token is good for."""

    # Digest of the request without its paging fields.
    request: str
    # Empty where the order does not depend on a model.
    model: str = ""


def scope_of(request: Message, model: str = "") -> Scope:
    """The scope of a request without what says where to go on; the page size may change from page to page."""
    bare = type(request)()
    bare.CopyFrom(request)
    for field in {"page_token", "page_size", "resume_token"} & set(request.DESCRIPTOR.fields_by_name):
        bare.ClearField(field)
    name = request.DESCRIPTOR.full_name.encode()
    return Scope(hashlib.blake2b(name + bare.SerializeToString(deterministic=True), digest_size=12).hexdigest(), model)


def encode(cursor: str, scope: Scope) -> str:
    """A token from which `decode` gives the cursor back."""
    body = json.dumps([_VERSION, cursor, scope.request, scope.model], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(body) + body).decode().rstrip("=")


def decode(token: str, scope: Scope) -> str:
    """The cursor, empty for an empty token.

    Raises INVALID_PAGE_TOKEN for a token that was changed or belongs to another request, STALE_PAGE_TOKEN for one of another model.
    """
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, body = raw[:8], raw[8:]
        if digest != _digest(body):
            raise ValueError("changed")
        version, cursor, request, model = json.loads(body)
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise damaged() from None
    if version != _VERSION or request != scope.request:
        raise AtomasError(
            Reason.INVALID_PAGE_TOKEN,
            "The page token belongs to another request. Repeat the request it came from unchanged, or start from the first page.",
        )
    if model != scope.model:
        raise AtomasError(Reason.STALE_PAGE_TOKEN, "The model has changed since this page token was made. Start from the first page.")
    return str(cursor)


def damaged() -> AtomasError:
    """For a token that cannot be read, or says what no token says: its digest keeps mistakes out, not malice."""
    return AtomasError(Reason.INVALID_PAGE_TOKEN, "The page token is damaged. Use it as it was returned, or start from the first page.")


def numbers(cursor: str, count: int) -> tuple[int, ...]:
    """The cursor as so many counts, none negative. Raises INVALID_PAGE_TOKEN."""
    parts = cursor.split()
    if len(parts) != count or not all(part.isascii() and part.isdecimal() and len(part) <= _MOST_DIGITS for part in parts):
        raise damaged()
    return tuple(int(part) for part in parts)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8, person=b"atomas-page").digest()
