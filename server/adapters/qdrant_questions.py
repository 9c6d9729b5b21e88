"""Questions to the legs as the Qdrant engine is asked them, in process and over the wire alike."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from server.adapters.qdrant_points import engine_words, unit_vectors
from server.adapters.qdrant_ranking import best_first
from server.domain.search import Leg
from server.ports import Question, ScoredPoint


@dataclass(frozen=True)
class EngineQuestion:
    """A question checked and converted: a unit vector, or numbers and weights of words."""

    leg: Leg
    asked: list[float] | tuple[list[int], list[float]]


def engine_questions(questions: Sequence[Question], dimension: int) -> list[EngineQuestion]:
    """Raises ValueError for a wrong dimension, a vector without direction, words in a leg of vectors or the other way round."""
    dense = [i for i, question in enumerate(questions) if isinstance(question.asked, np.ndarray)]
    names = [f"{questions[i].leg} of question {i}" for i in dense]
    units = unit_vectors([asked for question in questions if isinstance(asked := question.asked, np.ndarray)], dimension, names).tolist()
    rows = iter(units)
    converted = []
    for i, question in enumerate(questions):
        if isinstance(question.asked, np.ndarray) == (question.leg is Leg.LEXICAL):
            raise ValueError(f"Question {i}: the leg {question.leg} cannot be asked by {type(question.asked).__name__}.")
        if isinstance(question.asked, np.ndarray):
            converted.append(EngineQuestion(question.leg, next(rows)))
        else:
            converted.append(EngineQuestion(question.leg, engine_words(question.asked, f"question {i}")))
    return converted


def answers(
    ask: Callable[[Sequence[EngineQuestion], int], list[list[ScoredPoint]]], questions: Sequence[EngineQuestion], limit: int
) -> list[list[ScoredPoint]]:
    """The `limit` best points of each question by (score, id); nothing is asked where nothing can be found."""
    # The engine refuses a question without words.
    asked = [question for question in questions if not isinstance(question.asked, tuple) or question.asked[0]]
    if limit < 1 or not asked:
        return [[] for _ in questions]
    found = iter(best_first(lambda rows, depth: ask([asked[row] for row in rows], depth), len(asked), limit))
    return [next(found) if not isinstance(question.asked, tuple) or question.asked[0] else [] for question in questions]


def aligned(
    ask: Callable[[Sequence[tuple[list[list[float]], list[uuid.UUID]]]], list[list[ScoredPoint]]],
    asked: Sequence[tuple[list[list[float]], list[uuid.UUID]]],
) -> list[dict[uuid.UUID, float]]:
    """Scores of the points for each of the questions; nothing is asked without phrases or points, which the engine refuses."""
    real = [question for question in asked if all(question)]
    found = iter(ask(real)) if real else iter(())
    return [dict(next(found)) if all(question) else {} for question in asked]
