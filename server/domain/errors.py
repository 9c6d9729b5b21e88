"""What can go wrong, as reasons: no transport, no status codes."""

from collections.abc import Mapping
from enum import StrEnum

# Characters. gRPC carries refusals in headers, some kilobytes in all.
_MOST_MESSAGE, _MOST_DETAIL = 600, 200


class Reason(StrEnum):
    """Why a call was refused or a row rejected; part of the public contract (`ErrorInfo.reason`)."""

    # The request itself.
    EMPTY_QUERY = "EMPTY_QUERY"
    TEXT_TOO_LONG = "TEXT_TOO_LONG"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    INVALID_NAME = "INVALID_NAME"
    INVALID_FILTER = "INVALID_FILTER"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"
    STALE_PAGE_TOKEN = "STALE_PAGE_TOKEN"
    TOO_MANY_ITEMS = "TOO_MANY_ITEMS"
    # Structures, as the chemistry door names them.
    EMPTY = "EMPTY"
    INVALID_SMILES = "INVALID_SMILES"
    INVALID_INCHI = "INVALID_INCHI"
    INVALID_MOLBLOCK = "INVALID_MOLBLOCK"
    INVALID_SMARTS = "INVALID_SMARTS"
    UNSUPPORTED = "UNSUPPORTED"
    TOO_LARGE = "TOO_LARGE"
    TIMEOUT = "TIMEOUT"
    CRASHED = "CRASHED"
    UNREADABLE = "UNREADABLE"
    # Resources.
    LIBRARY_NOT_FOUND = "LIBRARY_NOT_FOUND"
    LIBRARY_EXISTS = "LIBRARY_EXISTS"
    LIBRARY_NOT_EMPTY = "LIBRARY_NOT_EMPTY"
    COMPOUND_NOT_FOUND = "COMPOUND_NOT_FOUND"
    OPERATION_NOT_FOUND = "OPERATION_NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_NOT_READY = "MODEL_NOT_READY"
    # Imports.
    IMPORT_GAP = "IMPORT_GAP"
    IMPORT_INCOMPLETE = "IMPORT_INCOMPLETE"
    IMPORT_CLOSED = "IMPORT_CLOSED"
    IMPORT_PROTOCOL = "IMPORT_PROTOCOL"
    # Who calls, and how much.
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    API_KEY_NOT_FOUND = "API_KEY_NOT_FOUND"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    # The service.
    OVERLOADED = "OVERLOADED"
    DISK_FULL = "DISK_FULL"
    DATA_DIR_IN_USE = "DATA_DIR_IN_USE"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    INDEX_UNAVAILABLE = "INDEX_UNAVAILABLE"
    ENCODER_UNAVAILABLE = "ENCODER_UNAVAILABLE"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"


class AtomasError(Exception):
    """A refusal with its reason, one clear sentence for a person, and details for programs."""

    def __init__(self, reason: Reason, message: str, **details: str) -> None:
        message = _short(message, _MOST_MESSAGE)
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details: Mapping[str, str] = {name: _short(said, _MOST_DETAIL) for name, said in details.items()}


def _short(said: str, most: int) -> str:
    """What repeats a long name or path must still fit where refusals travel."""
    return said if len(said) <= most else said[:most] + " ..."
