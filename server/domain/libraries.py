"""A library: a named collection of compounds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from server.domain.errors import AtomasError, Reason

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Library:
    """Metadata of one library."""

    id: str
    display_name: str = ""
    description: str = ""
    compound_count: int = 0
    # Metadata fields seen in its compounds and the kinds of their values ("number", "text", "boolean", "date" for texts that are dates).
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def resource_name(self) -> str:
        return f"libraries/{self.id}"


def check_library_id(library_id: str) -> str:
    """The id itself; raises INVALID_NAME when it could not be part of a resource name."""
    if not _ID.fullmatch(library_id):
        raise AtomasError(
            Reason.INVALID_NAME,
            f"{library_id[:80]!r} is no library id: use 1 to 63 lower-case letters, digits and hyphens, starting with a letter or digit.",
        )
    return library_id
