"""The ports of compounds in SQL: by structure, by name, and by what indexes hold of them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from server.domain.compounds import Compound
from server.domain.models import IndexEntry
from server.domain.search import NamedCompound


class Compounds(Protocol):
    """Compounds in SQL, and which revision of each the index of a model version holds.

    Whatever concerns a library that is missing or being deleted finds nothing; `save` and `mark_deleted` raise LIBRARY_NOT_FOUND.
    """

    def get(self, library: str, inchikey: str) -> Compound:
        """Raises COMPOUND_NOT_FOUND."""
        ...

    def get_many(self, library: str, inchikeys: Sequence[str], for_update: bool = False) -> dict[str, Compound]:
        """Those that exist. `for_update` locks them until the transaction ends and allows `save` to replace them."""
        ...

    def revisions(self, library: str, inchikeys: Sequence[str]) -> dict[str, int]:
        """The present revisions of those that exist, by InChIKey."""
        ...

    def page(self, library: str, after: str, limit: int) -> list[Compound]:
        """Compounds with an InChIKey greater than `after`, by InChIKey."""
        ...

    def save(self, compounds: Sequence[Compound]) -> None:
        """Insert, or replace what this transaction read `for_update` or saved itself; stamps the update time.

        Raises DATABASE_UNAVAILABLE when another transaction wrote one of them meanwhile: nothing is lost, run the work again.
        A compound that was marked deleted comes back with a revision that no index holds.
        """
        ...

    def mark_deleted(self, library: str, inchikey: str) -> None:
        """Hide the compound until its vector is gone. Raises COMPOUND_NOT_FOUND."""
        ...

    def remove_deleted(self, library: str, inchikeys: Sequence[str]) -> None:
        """Remove those of the rows that are marked deleted; those that came back meanwhile count as not indexed,
        because the caller has just removed their vectors."""
        ...

    def deleted(self, limit: int) -> list[tuple[str, str]]:
        """(library, InChIKey) of compounds that wait for the removal of their vector."""
        ...

    def mark_indexed(self, library: str, revisions: Mapping[str, int], model_version: str) -> None:
        """The index of this model version now holds these revisions, by InChIKey."""
        ...

    def mark_refused(self, library: str, inchikey: str, revision: int, model_version: str, error: str) -> None:
        """This revision cannot be encoded: it counts as indexed, so that nobody tries again until the compound changes."""
        ...

    def forget_indexed(self, library: str, inchikeys: Sequence[str], model_version: str) -> None:
        """The index of this model version is to be written anew for these compounds."""
        ...

    def entries(self, library: str, model_version: str, after: str, limit: int, inchikeys: Sequence[str] | None = None) -> list[IndexEntry]:
        """What the index of a model version should hold: visible compounds with an InChIKey greater than `after`, by InChIKey; only
        those named in `inchikeys` when given."""
        ...

    def unindexed(self, model_version: str, limit: int, after: tuple[str, str] | None = None) -> list[tuple[str, str]]:
        """(library, InChIKey) of visible compounds whose present revision this model version's index lacks, oldest first.

        `after`, an item of a former answer, goes on from there instead of passing over everything that is indexed again.
        """
        ...


class Names(Protocol):
    """Compounds by what people call them, in some of the libraries or, for None, in all.

    Finds what `Compounds.save` wrote, from then on until the compound or its library is marked deleted. A compound comes once for each of
    its names that match; of more than `limit` matches some are left out.
    """

    def spelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        """Names and source ids that the text spells, whatever the case, spaces, signs and Greek letters (`server.domain.names`)."""
        ...

    def misspelled(self, text: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        """Names that one typo makes the text of: a letter more, less, another, or two neighbours swapped. Not the text itself."""
        ...

    def with_inchikey(self, beginning: str, libraries: Sequence[str] | None, limit: int) -> list[NamedCompound]:
        """Compounds whose InChIKey begins so, by InChIKey; a whole key finds its compound, a first block its stereoisomers too."""
        ...
