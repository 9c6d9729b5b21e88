"""Generation: batched beam search and seeded sampling of many candidates per item, counted and deduplicated."""

# Shape legend:  B items still decoding, N rows of one item (beams or draws), L tokens written, V outputs

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.model.decoder import END, Decoder, Task
from encoder.model.source import Source
from encoder.syntax import Forbid

WORTH_DROPPING = 0.8
"""Rows that have ended are dropped when no more than this share of those that are computed is left."""
LIKELIEST = 32
"""Outputs among which a draw of the likeliest is made, where these hold enough of the probability: to sort all takes longer than to choose."""


class Cancelled(Exception):  # noqa: N818  # no error: whoever asked has gone
    """Decoding was given up because its caller wished so."""


def never() -> bool:
    """A caller who never gives up."""
    return False


Identify = Callable[[tuple[int, ...]], Hashable | None]
"""Identity of a candidate by its token ids, None when it is invalid: candidates of equal identity are one."""


@dataclass(frozen=True)
class Candidate:
    """One sequence that the decoder wrote."""

    ids: tuple[int, ...]
    """Token ids of the task's own vocabulary; never empty."""
    log_probability: float
    """Natural logarithm of its probability under the decoder, its end included, whatever temperature or cut it was drawn with."""


@dataclass(frozen=True)
class Generated:
    """Candidates of one item, best first, and what became of the others."""

    candidates: tuple[Candidate, ...]
    drawn: int
    """Sequences written in all: candidates, surplus and all that were dropped."""
    unfinished: int
    """Dropped because they had not ended after the largest number of tokens."""
    rejected: int
    """Dropped because they were invalid."""
    duplicates: int
    """Dropped because an equal candidate was kept."""


@dataclass(frozen=True)
class Sampling:
    """How candidates are drawn."""

    count: int
    """Candidates wanted of each item."""
    seed: int | Sequence[int]
    """Same seed, same answer; asking for more candidates of a seed continues the same draws."""
    max_tokens: int
    """Longest sequence, its end not counted."""
    temperature: float = 1.0
    """Divides the logits: below 1 keeps to the likely, above 1 ventures."""
    top_p: float = 1.0
    """Draws from the likeliest tokens that together hold this share of the probability."""
    max_draws: int | None = None
    """Sequences written of each item at most, in search of valid new ones; `count` when None."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.max_tokens < 1:
            raise ValueError("count and max_tokens must be at least 1")
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, not {self.temperature}; for the likeliest sequence use a beam search")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must lie in (0, 1], not {self.top_p}")
        if self.max_draws is not None and self.max_draws < self.count:
            raise ValueError(f"max_draws {self.max_draws} cannot give {self.count} candidates")


def by_ids(ids: tuple[int, ...]) -> Hashable:
    """Identity of a candidate when nothing is known about validity: its tokens."""
    return ids


class _Collector:
    """Sorts the sequences of one item into candidates and drops."""

    def __init__(self, identify: Identify) -> None:
        self.identify = identify
        self.kept: dict[Hashable, Candidate] = {}
        self.drawn = self.unfinished = self.rejected = self.duplicates = 0

    def add(self, outputs: list[int], log_probability: float) -> None:
        self.drawn += 1
        if END not in outputs:
            self.unfinished += 1
            return
        ids = tuple(output - 1 for output in outputs[: outputs.index(END)])
        identity = self.identify(ids)
        if identity is None:
            self.rejected += 1
            return
        candidate = Candidate(ids, log_probability)
        if identity in self.kept:
            self.duplicates += 1
            candidate = max(self.kept[identity], candidate, key=lambda either: either.log_probability)
        self.kept[identity] = candidate

    def result(self, candidates: Sequence[Candidate]) -> Generated:
        return Generated(tuple(candidates), self.drawn, self.unfinished, self.rejected, self.duplicates)


@torch.inference_mode()
def sample(
    decoder: Decoder,
    task: Task,
    source: Source,
    sampling: Sampling,
    identify: Identify = by_ids,
    cancelled: Callable[[], bool] = never,
    forbid: Forbid | None = None,
) -> list[Generated]:
    """Draw candidates of every item, likeliest first, in rounds until each has `count` or has used up its draws.

    The draws of an item depend on the seed and on the item alone, not on the batch it is in. What `forbid` forbids is never written.
    `cancelled` is asked before every token; raises `Cancelled` when it says so.
    """
    collectors = [_Collector(identify) for _ in range(len(source))]
    # One stream of numbers for all items, a row per draw: what a draw gets depends neither on the item's place nor on `count`.
    stream = np.random.default_rng(sampling.seed)
    remaining = sampling.max_draws or sampling.count
    with _evaluating(decoder):
        while remaining and (open_items := [item for item, collected in enumerate(collectors) if len(collected.kept) < sampling.count]):
            rows = min(sampling.count, remaining)
            chances_NL = torch.from_numpy(stream.random((rows, sampling.max_tokens + 1))).to(source.tokens_BEC.device)
            items_B = torch.tensor(open_items, device=source.tokens_BEC.device)
            drawn = _draw(decoder, task, source.select(items_B), sampling, chances_NL, cancelled, forbid)
            for item, sequences in zip(open_items, drawn, strict=True):
                for outputs, log_probability in sequences:
                    collectors[item].add(outputs, log_probability)
            remaining -= rows
    return [
        collected.result(sorted(list(collected.kept.values())[: sampling.count], key=lambda candidate: -candidate.log_probability))
        for collected in collectors
    ]


def _draw(
    decoder: Decoder,
    task: Task,
    source: Source,
    sampling: Sampling,
    chances_NL: Tensor,
    cancelled: Callable[[], bool],
    forbid: Forbid | None,
) -> list[list[tuple[list[int], float]]]:
    """Write one sequence per row of chances for every item; returns outputs, padded with END, and log-probabilities."""
    state = decoder.start(task, source)
    rows = _Rows(torch.full((len(source), *chances_NL.shape), END, device=source.tokens_BEC.device))
    last_BN = rows.outputs_BNL[:, :, 0]
    for position in range(chances_NL.shape[1]):
        if cancelled():
            raise Cancelled
        log_probability_BNV = decoder.step(state, last_BN)
        chance_BN = chances_NL[:, position][rows.numbers_BN]
        last_BN = _choose(_permitted(log_probability_BNV, rows.outputs_BNL[:, :, :position], forbid), chance_BN, sampling)
        last_BN = rows.write(position, last_BN, log_probability_BNV.gather(2, last_BN[:, :, None]).squeeze(2))
        running_B = (~rows.ended_BN).sum(dim=1)
        going_B = running_B.nonzero().squeeze(1)
        if len(going_B) == 0:
            break
        most = int(running_B.max())
        # To drop rows costs a copy of all that was written: not for a few.
        if len(going_B) * most <= WORTH_DROPPING * last_BN.numel():
            kept_BN = rows.ended_BN[going_B].byte().argsort(dim=1, stable=True)[:, :most]
            state.keep(going_B, kept_BN)
            rows.keep(going_B, kept_BN)
            last_BN = last_BN[going_B[:, None], kept_BN]
    return rows.results()


class _Rows:
    """The rows that are being written, and those that have ended and were dropped from among them."""

    def __init__(self, outputs_BNL: Tensor) -> None:
        batch, rows, _ = outputs_BNL.shape
        self._results = outputs_BNL, outputs_BNL.new_zeros(batch, rows, dtype=torch.float64)
        self.outputs_BNL = outputs_BNL.clone()
        self.totals_BN = torch.zeros_like(self._results[1])
        self.ended_BN = torch.zeros(batch, rows, dtype=torch.bool, device=outputs_BNL.device)
        self.items_B = torch.arange(batch, device=outputs_BNL.device)
        self.numbers_BN = torch.arange(rows, device=outputs_BNL.device).expand(batch, rows)

    def write(self, position: int, last_BN: Tensor, log_probability_BN: Tensor) -> Tensor:
        """Returns what was written: END after the end."""
        last_BN = last_BN.masked_fill(self.ended_BN, END)
        self.outputs_BNL[:, :, position] = last_BN
        self.totals_BN += log_probability_BN.double().masked_fill(self.ended_BN, 0.0)
        self.ended_BN |= last_BN == END
        return last_BN

    def keep(self, items_B: Tensor, rows_BN: Tensor) -> None:
        """These rows of these items alone, the others for good."""
        self._store()
        place = items_B[:, None], rows_BN
        self.outputs_BNL, self.totals_BN, self.ended_BN = self.outputs_BNL[place], self.totals_BN[place], self.ended_BN[place]
        self.items_B, self.numbers_BN = self.items_B[items_B], self.numbers_BN[place]

    def _store(self) -> None:
        place = self.items_B[:, None], self.numbers_BN
        self._results[0][place], self._results[1][place] = self.outputs_BNL, self.totals_BN

    def results(self) -> list[list[tuple[list[int], float]]]:
        """Of every item, outputs and log-probability of every row, in the order of the chances."""
        self._store()
        outputs_BNL, totals_BN = self._results
        return [list(zip(*item, strict=True)) for item in zip(outputs_BNL.tolist(), totals_BN.tolist(), strict=True)]


def _choose(log_probability_BNV: Tensor, chance_BN: Tensor, sampling: Sampling) -> Tensor:
    """Outputs (B, N) at the given chances of the cumulative distribution."""
    probability_BNV = (log_probability_BNV.double() / sampling.temperature).softmax(dim=2)
    order_BNV = None
    if sampling.top_p < 1.0:
        probability_BNV, order_BNV = _likeliest(probability_BNV, sampling.top_p)
        cut_BNV = probability_BNV.cumsum(dim=2) - probability_BNV >= sampling.top_p
        probability_BNV = probability_BNV.masked_fill(cut_BNV, 0.0)
    cumulative_BNV = probability_BNV.cumsum(dim=2)
    total_BN1 = cumulative_BNV[:, :, -1:].contiguous()
    place_BN1 = torch.searchsorted(cumulative_BNV, chance_BN[:, :, None] * total_BN1, right=True)
    # Rounding may put the highest chance on the total itself, which belongs to the last output of any probability.
    place_BN1 = torch.minimum(place_BN1, torch.searchsorted(cumulative_BNV, total_BN1))
    return (place_BN1 if order_BNV is None else order_BNV.gather(2, place_BN1)).squeeze(2)


def _likeliest(probability_BNV: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Probabilities, highest first, and their outputs; as many as hold the share together, or more."""
    few = min(LIKELIEST, probability_BNV.shape[2])
    highest_BNV, order_BNV = probability_BNV.topk(few, dim=2)
    if bool((highest_BNV.sum(dim=2) >= share).all()):
        return highest_BNV, order_BNV
    highest_BNV, order_BNV = probability_BNV.sort(dim=2, descending=True, stable=True)
    return highest_BNV, order_BNV


def _permitted(log_probability_BNV: Tensor, written_BNL: Tensor, forbid: Forbid | None) -> Tensor:
    """Give minus infinity to what may not be written; END never comes first: nobody wants an empty text or molecule."""
    if forbid is not None:
        log_probability_BNV = log_probability_BNV.masked_fill(forbid(written_BNL), -math.inf)
    if written_BNL.shape[2] == 0:
        log_probability_BNV = log_probability_BNV.clone()
        log_probability_BNV[:, :, END] = -math.inf
    return log_probability_BNV


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    task: Task,
    source: Source,
    beams: int,
    max_tokens: int,
    length_penalty: float = 1.0,
    identify: Identify = by_ids,
    cancelled: Callable[[], bool] = never,
    forbid: Forbid | None = None,
) -> list[Generated]:
    """Search the likeliest sequences of every item, at most `beams` of each, best first.

    Sequences are ranked by log-probability / length ** length_penalty, the end counted: 0 ranks by probability, 1 by its mean per token. An
    item is done when its finished sequences are as many as the beams and better than its best unfinished one at its present length.
    What `forbid` forbids is never written. `cancelled` is asked before every token; raises `Cancelled` when it says so.
    """
    if beams < 1 or max_tokens < 1:
        raise ValueError("beams and max_tokens must be at least 1")
    batch, device = len(source), source.tokens_BEC.device
    results: list[list[tuple[list[int], float]]] = [[] for _ in range(batch)]
    items_B = torch.arange(batch, device=device)
    totals_BN = torch.full((batch, beams), -math.inf, device=device)
    totals_BN[:, 0] = 0.0
    # The last place of every row stays END, so that a sequence of max_tokens is closed too.
    running_BNL = torch.full((batch, beams, max_tokens + 1), END, device=device)
    finished = _Finished.none(running_BNL)
    last_BN = running_BNL[:, :, 0]
    with _evaluating(decoder):
        state = decoder.start(task, source)
        for position in range(max_tokens + 1):
            if cancelled():
                raise Cancelled
            total_BNV = totals_BN[:, :, None] + _permitted(decoder.step(state, last_BN), running_BNL[:, :, :position], forbid)
            finished = finished.with_more(total_BNV[:, :, END], running_BNL, (position + 1) ** length_penalty)
            totals_BN, places_BN = _best(total_BNV[:, :, END + 1 :].flatten(1), beams)
            vocabulary = total_BNV.shape[2] - 1
            parents_BN, last_BN = places_BN // vocabulary, places_BN % vocabulary + 1
            going_B = totals_BN[:, 0] / (position + 1) ** length_penalty > finished.ranks_BN[:, -1]
            if position == max_tokens:
                going_B = torch.zeros_like(going_B)
            for row in (~going_B).nonzero().flatten().tolist():
                results[int(items_B[row])] = finished.of_item(row)
            if not bool(going_B.any()):
                break
            rows = torch.arange(len(items_B), device=device)[:, None]
            state.select_rows((rows * beams + parents_BN).flatten())
            running_BNL = running_BNL[rows, parents_BN]
            running_BNL[:, :, position] = last_BN
            if not bool(going_B.all()):
                going = going_B.nonzero().squeeze(1)
                state.select_items(going)
                items_B, totals_BN, running_BNL, last_BN = items_B[going], totals_BN[going], running_BNL[going], last_BN[going]
                finished = finished.select(going)
    return [_collect(sequences, identify) for sequences in results]


def _best(scores_BX: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest scores and their places, filled up with scores of minus infinity when there are fewer."""
    values_BN, places_BN = scores_BX.topk(min(count, scores_BX.shape[1]), dim=1)
    missing = count - values_BN.shape[1]
    return torch.nn.functional.pad(values_BN, (0, missing), value=-math.inf), torch.nn.functional.pad(places_BN, (0, missing))


@dataclass(frozen=True)
class _Finished:
    """The best finished sequences of every item, best first; places not yet taken rank at minus infinity."""

    ranks_BN: Tensor
    totals_BN: Tensor
    outputs_BNL: Tensor

    @classmethod
    def none(cls, outputs_BNL: Tensor) -> "_Finished":
        nothing_BN = torch.full(outputs_BNL.shape[:2], -math.inf, device=outputs_BNL.device)
        return cls(nothing_BN, nothing_BN, outputs_BNL)

    def with_more(self, totals_BN: Tensor, outputs_BNL: Tensor, divisor: float) -> "_Finished":
        ranks_BN = torch.cat([self.ranks_BN, totals_BN / divisor], dim=1)
        best_BN, order_BN = ranks_BN.sort(dim=1, descending=True, stable=True)
        beams = totals_BN.shape[1]
        order_BN = order_BN[:, :beams]
        rows = torch.arange(len(order_BN), device=order_BN.device)[:, None]
        totals_BN = torch.cat([self.totals_BN, totals_BN], dim=1)[rows, order_BN]
        return _Finished(best_BN[:, :beams], totals_BN, torch.cat([self.outputs_BNL, outputs_BNL], dim=1)[rows, order_BN])

    def select(self, items_B: Tensor) -> "_Finished":
        return _Finished(self.ranks_BN[items_B], self.totals_BN[items_B], self.outputs_BNL[items_B])

    def of_item(self, item: int) -> list[tuple[list[int], float]]:
        taken = int(self.ranks_BN[item].isfinite().sum())
        return list(zip(self.outputs_BNL[item, :taken].tolist(), self.totals_BN[item, :taken].tolist(), strict=True))


def _collect(sequences: list[tuple[list[int], float]], identify: Identify) -> Generated:
    collected = _Collector(identify)
    for outputs, log_probability in sequences:
        collected.add(outputs, log_probability)
    return collected.result(tuple(collected.kept.values()))


def rerank(candidates: Sequence[Candidate], scores: Sequence[float]) -> list[Candidate]:
    """Order candidates by another score, highest first, such as their alignment with the query; equals by log-probability."""
    order = sorted(zip(candidates, scores, strict=True), key=lambda scored: (-scored[1], -scored[0].log_probability))
    return [candidate for candidate, _ in order]


@contextmanager
def _evaluating(decoder: Decoder) -> Iterator[None]:
    training = decoder.training
    decoder.eval()
    try:
        yield
    finally:
        decoder.train(training)
