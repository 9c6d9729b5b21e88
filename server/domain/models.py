"""A model version: weights and the index filled with its vectors, named by one content hash."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True)
class ModelVersion:
    """What search and index must agree on."""

    # Content hash of weights, configuration, tokenizer and molecule standard.
    version: str
    dimension: int
    molecule_standard: str
    max_tokens: int
    # Length of the vectors of fragments and phrases; 0 for a model without a hierarchy.
    fragment_dimension: int = 0

    @property
    def resource_name(self) -> str:
        return f"models/{self.version}"


class ModelState(StrEnum):
    """How the service uses a model."""

    # Answers searches; one model does.
    SERVING = "SERVING"
    # Its index is being filled beside the serving one.
    FILLING = "FILLING"
    # Its index is complete; it can be activated.
    READY = "READY"
    # It served before and can be activated again.
    RETIRED = "RETIRED"
    # Its index is being removed.
    DELETING = "DELETING"
    # A note that it once was here.
    DELETED = "DELETED"

    @property
    def live(self) -> bool:
        """Its index receives every new compound."""
        return self in (ModelState.SERVING, ModelState.FILLING, ModelState.READY, ModelState.RETIRED)


@dataclass(frozen=True)
class StoredModel:
    """A model as the database knows it: what every server and worker goes by."""

    model: ModelVersion
    state: ModelState
    # Folder of the checkpoint, as servers and workers see it; empty for the one that the settings name.
    path: str = ""
    # Counts the fills that were begun, so that jobs of a former one notice.
    fill: int = 0
    # Compounds that the present fill has indexed.
    filled: int = 0
    # When filling began, when anything last changed, when the fill ended.
    create_time: datetime | None = None
    update_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def version(self) -> str:
        return self.model.version


@dataclass(frozen=True)
class IndexEntry:
    """What the database believes of one compound in the index of one model."""

    inchikey: str
    # Of the compound as it is now.
    revision: int
    # The one that the index holds; None when none was noted.
    indexed: int | None
    # Why the noted revision cannot be encoded; empty when the index holds it.
    error: str = ""

    @property
    def waiting(self) -> bool:
        """A job has still to bring the index in line."""
        return self.indexed != self.revision
