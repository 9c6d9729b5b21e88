"""An export as a state machine without transport: what to ask, where it stands, when to ask again."""

import random
from collections.abc import Callable, Sequence
from time import monotonic

from google.protobuf import field_mask_pb2

from atomas import calls, codec
from atomas.errors import AbortedError, AtomasError, DeadlineExceededError, OverloadedError, UnavailableError
from atomas.types import Compound, ExportProgress, Library
from atomas.v1 import library_pb2
from atomas.v1.library_service_pb2 import ExportCompoundsRequest, ExportCompoundsResponse

# Breaks are mended for so long without any progress; before the first answer the service is just not there.
PATIENCE_SECONDS = 120.0
FIRST_PATIENCE_SECONDS = 5.0
_PASSING = (UnavailableError, OverloadedError, AbortedError, DeadlineExceededError)
_FIRST_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.2, 10.0


class ExportSession:
    """One export over however many streams it takes. Not thread-safe."""

    def __init__(
        self,
        library: str | Library,
        filter: str,
        fields: Sequence[str] | None,
        molblocks: bool,
        on_progress: Callable[[ExportProgress], None] | None,
    ) -> None:
        self.request = ExportCompoundsRequest(parent=calls.library_name(library), filter=filter)
        if fields is not None:
            self.request.read_mask.CopyFrom(
                field_mask_pb2.FieldMask(paths=calls.contract_fields([*fields, *(["molblock"] if molblocks else [])]))
            )
        elif molblocks:
            self.request.read_mask.paths.extend(field.name for field in library_pb2.Compound.DESCRIPTOR.fields)
        self._on_progress = on_progress
        self._exported = 0
        self._answered = False
        self._breaks, self._broken_since = 0, 0.0

    def received(self, response: ExportCompoundsResponse) -> Sequence[Compound]:
        """The message's compounds; the next stream goes on after them."""
        self._breaks, self._answered = 0, True
        if response.resume_token:
            self.request.resume_token = response.resume_token
        compounds = [codec.decode_compound(each) for each in response.compounds]
        self._exported += len(compounds)
        if self._on_progress is not None:
            self._on_progress(ExportProgress(self._exported, response.examined_count, response.compound_count))
        return compounds

    def broke(self, error: AtomasError) -> float:
        """Seconds to wait before the next stream; raises the error when it will not pass."""
        now = monotonic()
        if not self._breaks:
            self._broken_since = now
        self._breaks += 1
        patience = PATIENCE_SECONDS if self._answered else FIRST_PATIENCE_SECONDS
        if not isinstance(error, _PASSING) or now - self._broken_since > patience:
            raise error
        delay: float = min(_MAX_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2 ** (self._breaks - 1)) * random.uniform(0.5, 1.0)
        return max(delay, error.retry_after_seconds or 0.0)
