"""The best points in one order, whatever order the engine returns equal scores in."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from server.ports import ScoredPoint

# Asks for the nearest points of some of the queries, by position; more may be asked of the same queries later.
Ask: TypeAlias = Callable[[Sequence[int], int], list[list[ScoredPoint]]]

# Where more points than this share the last score, which of them are shown is up to the engine.
MAX_TIES = 1_000


def best_first(ask: Ask, queries: int, limit: int) -> list[list[ScoredPoint]]:
    """The `limit` best points of each query by (score, id).

    The engine breaks ties by where a point happens to lie, so pages would lose or repeat compounds: identical molecules of two libraries have equal scores.
    One more point than wanted shows whether the last score is shared; only then is more asked.
    """
    asked = limit + 1
    answers = ask(range(queries), asked)
    cut = [i for i, answer in enumerate(answers) if _shares_last_score(answer, limit, asked)]
    while cut and asked < limit + MAX_TIES:
        asked = min(2 * asked + 16, limit + MAX_TIES)
        for i, answer in zip(cut, ask(cut, asked), strict=True):
            answers[i] = answer
        cut = [i for i in cut if _shares_last_score(answers[i], limit, asked)]
    return [_ordered(answer)[:limit] for answer in answers]


def _ordered(answer: list[ScoredPoint]) -> list[ScoredPoint]:
    """By (score, id). Most answers are in order and without ties already, and comparing ids costs more than finding that out."""
    if all(former.score > latter.score for former, latter in pairwise(answer)):
        return answer
    return sorted(answer, key=lambda point: (-point.score, point.id.int))


def _shares_last_score(answer: Sequence[ScoredPoint], limit: int, asked: int) -> bool:
    return len(answer) == asked and answer[-1].score == answer[limit - 1].score
