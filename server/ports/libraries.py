"""The port of libraries in SQL."""

from collections.abc import Mapping
from typing import Protocol

from server.domain.libraries import Library


class Libraries(Protocol):
    """Libraries in SQL. A library being deleted is invisible to everything but `purgeable`."""

    def add(self, library: Library) -> Library:
        """Raises LIBRARY_EXISTS."""
        ...

    def get(self, library_id: str) -> Library:
        """Raises LIBRARY_NOT_FOUND."""
        ...

    def page(self, after: str, limit: int) -> list[Library]:
        """Libraries with an id greater than `after`, by id."""
        ...

    def update(self, library: Library) -> Library:
        """Display name and description."""
        ...

    def add_fields(self, library_id: str, fields: Mapping[str, frozenset[str]]) -> None:
        """Remember metadata fields and the kinds of their values."""
        ...

    def mark_deleted(self, library_id: str) -> None:
        """Hide the library and end its imports as cancelled. Raises LIBRARY_NOT_FOUND."""
        ...

    def purgeable(self) -> list[str]:
        """Ids of libraries that wait to be purged."""
        ...

    def purge(self, library_id: str, limit: int) -> bool:
        """Remove up to `limit` rows of a library marked deleted; True once nothing is left and its id may be used again.

        In steps, so that no transaction grows with the library; a library that is not marked deleted is left alone.
        """
        ...
