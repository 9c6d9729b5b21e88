"""The decoder in this process: checkpoints are loaded when they are first asked for, and callers take turns."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from encoder.decoder_checkpoint import NoDecoderError
from encoder.generation import Cancelled
from encoder.generator import Generator as Decoder
from encoder.generator import Neighbour, Proposal
from encoder.inference import EmptyInputError, TooLongError
from encoder.manifest import CheckpointError
from server.domain.errors import AtomasError, Reason
from server.ports import Shown, Written

# A caller who waits for its turn asks so often whether it is still wanted.
_TURN_SECONDS = 0.1
# Proposals that are given at once: few, because a round of draws may end before the next one has to be waited for.
_AT_ONCE = 4


class LocalGenerator:
    """The `Generator` port on checkpoints of this process; the last model that was asked for stays in memory."""

    def __init__(self, find_checkpoint: Callable[[str], Path]) -> None:
        """`find_checkpoint` gives the folder of a model version; raises ENCODER_UNAVAILABLE, MODEL_NOT_FOUND."""
        self._find_checkpoint = find_checkpoint
        self._loaded: tuple[str, Decoder] | None = None
        # One at a time: the decoder is not made for several threads, and two at once would not be faster.
        self._turn = threading.Lock()

    def propose(
        self, model: str, text: str, count: int, seed: int, shown: Sequence[Shown], stopped: Callable[[], bool]
    ) -> Iterator[Sequence[Written]]:
        """A turn for each round, so that a long request does not keep a short one waiting."""
        try:
            with _refusals(Reason.TEXT_TOO_LONG), self._turns(stopped):
                proposals = self._decoder(model).propose(text, count, seed, _neighbours(shown), stopped)
        except Cancelled:
            return
        while written := self._round(proposals, stopped):
            yield written

    def describe(self, model: str, smiles: str, count: int, shown: Sequence[Shown], stopped: Callable[[], bool]) -> Sequence[Written]:
        """By beam search, in one turn."""
        with _refusals(Reason.TOO_LARGE):
            try:
                with self._turns(stopped):
                    found = self._decoder(model).describe(smiles, _neighbours(shown), beams=count, cancelled=stopped)
            except Cancelled:
                return []
        return [Written(each.text, each.log_probability) for each in found]

    def _round(self, proposals: Iterator[Proposal], stopped: Callable[[], bool]) -> Sequence[Written]:
        try:
            with self._turns(stopped):
                found = list(islice(proposals, _AT_ONCE))
        except Cancelled:
            return ()
        return [Written(each.smiles, each.log_probability) for each in found]

    def _decoder(self, model: str) -> Decoder:
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None
            self._loaded = model, Decoder.load(self._find_checkpoint(model))
        return self._loaded[1]

    @contextmanager
    def _turns(self, stopped: Callable[[], bool]) -> Iterator[None]:
        while not self._turn.acquire(timeout=_TURN_SECONDS):
            if stopped():
                raise Cancelled
        try:
            yield
        finally:
            self._turn.release()


def _neighbours(shown: Sequence[Shown]) -> list[Neighbour]:
    return [Neighbour(each.smiles, each.name, each.text) for each in shown]


@contextmanager
def _refusals(too_long: Reason) -> Iterator[None]:
    """The decoder's refusals as reasons."""
    try:
        yield
    except NoDecoderError as error:
        raise AtomasError(Reason.MODEL_NOT_READY, f"{error}.") from None
    except CheckpointError as error:
        raise AtomasError(Reason.ENCODER_UNAVAILABLE, f"{error}.") from None
    except TooLongError as error:
        raise AtomasError(too_long, str(error)) from None
    except EmptyInputError as error:
        raise AtomasError(Reason.EMPTY_QUERY, str(error)) from None
