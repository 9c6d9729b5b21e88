"""Client of Atomas, the search engine between molecules and words."""

from importlib.metadata import PackageNotFoundError, version

from atomas.aio import AsyncClient
from atomas.client import Client
from atomas.errors import (
    AbortedError,
    AlreadyExistsError,
    AtomasError,
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OperationFailedError,
    OverloadedError,
    PermissionDeniedError,
    ReaderError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    WriterError,
)
from atomas.readers import Format, read_rows
from atomas.types import (
    Compound,
    Descriptors,
    Embedding,
    Embeddings,
    ExportProgress,
    Health,
    Hit,
    ImportCounts,
    ImportProgress,
    ImportReport,
    Interpretation,
    LegScore,
    Library,
    Model,
    Operation,
    OperationState,
    QueryKind,
    Rejection,
    Row,
    SearchAnswer,
    SearchPage,
    SearchResult,
    Target,
)

try:
    __version__ = version("atomas")
except PackageNotFoundError:
    # The source tree on a path, not installed.
    __version__ = "0.0.0"

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AsyncClient",
    "AtomasError",
    "CancelledError",
    "Client",
    "Compound",
    "DeadlineExceededError",
    "Descriptors",
    "Embedding",
    "Embeddings",
    "ExportProgress",
    "FailedPreconditionError",
    "Format",
    "Health",
    "Hit",
    "ImportCounts",
    "ImportProgress",
    "ImportReport",
    "InternalError",
    "Interpretation",
    "InvalidArgumentError",
    "LegScore",
    "Library",
    "Model",
    "NotFoundError",
    "Operation",
    "OperationFailedError",
    "OperationState",
    "OverloadedError",
    "PermissionDeniedError",
    "QueryKind",
    "ReaderError",
    "Rejection",
    "Row",
    "SearchAnswer",
    "SearchPage",
    "SearchResult",
    "Target",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "WriterError",
    "read_rows",
]
