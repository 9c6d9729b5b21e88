"""Says when nothing matches well: when the best hits score no better than those of queries without meaning.

What a good cosine is depends on the model and on the library, so it is measured where it is used: everyday words in random order are
searched for in the same index, with the same model, and the scores of their best hits are the measure (docs/search.md).
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from server.domain.search import VECTOR_LEGS, Leg
from server.ports import Ports, Question, ScoredPoint, Vector, Words
from server.usecases.words import query_weights

log = structlog.get_logger(__name__)

# Nouns, verbs and adjectives of everyday life that chemistry has no use for.
_EVERYDAY = (
    "table river window happy running quickly mountain letter seven garden music yesterday whisper carpet football election market holiday "
    "weather teacher painting bicycle kitchen lawyer rabbit movie ticket airport pillow sandwich lottery novel castle soldier island camera "
    "doctor banana pencil shadow thunder village wedding umbrella ladder jacket festival budget orchestra traffic parliament sunset necklace "
    "highway goalkeeper laugh borrow climb argue polite empty narrow sleepy brave crowded neighbour grandmother newspaper staircase"
)
EVERYDAY = _EVERYDAY.split()
SEED, SALADS = 20_240_416, 96
# As many of the meaningless queries still pass for meaningful.
FALSE_PASS_SHARE = 0.02
# Queries of so many words count as good when one of the first so many hits by words holds them all; one word when so many hits hold it.
_SHORT_WORDS, _LOOKED_AT, _USUAL_WORD = 8, 5, 50
# How often it is looked whether the index has grown or another model answers, and how much growth makes a new measurement.
LOOK_SECONDS, GROWTH = 60.0, 1.25


@dataclass(frozen=True)
class Measured:
    """Scores that the best hits of meaningless queries hardly exceed."""

    model_version: str
    count: int
    limits: Mapping[Leg, float]


def measure(ports: Ports) -> Measured:
    """Searches for meaningless queries in every library. Raises OVERLOADED, INDEX_UNAVAILABLE and the like."""
    salads = word_salads(SEED, SALADS)
    words = [query_weights(salad) for salad in salads]
    vectors = ports.encoder.encode_texts(salads)
    limits = {}
    for leg in (*VECTOR_LEGS, Leg.LEXICAL):
        asked: Sequence[Vector | Words] = words if leg is Leg.LEXICAL else list(vectors)
        found = ports.index.search_legs([Question(leg, one) for one in asked], 1)
        if any(found):
            best = sorted(_best(leg, points, len(word)) for points, word in zip(found, words, strict=True))
            limits[leg] = best[min(len(best) - 1, int(len(best) * (1 - FALSE_PASS_SHARE)))]
    return Measured(ports.index.model_version, ports.index.count(), limits)


def _best(leg: Leg, points: Sequence[ScoredPoint], words: int) -> float:
    """The best score; of BM25 for each word asked, or long texts would look like good matches by their length."""
    if not points:
        return 0.0
    return points[0].score / max(words, 1) if leg is Leg.LEXICAL else points[0].score


def word_salads(seed: int, count: int) -> list[str]:
    """Everyday words in random order, short and long, the same for a seed."""
    chooser = random.Random(seed)
    return [" ".join(chooser.sample(EVERYDAY, chooser.randint(1, 14))) for _ in range(count)]


class MatchJudge:
    """Judges searches by words; thread-safe. Measures in the background, and says nothing before it has."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._measured: Measured | None = None
        self._lock = threading.Lock()
        self._looked = -LOOK_SECONDS

    def no_good_match(self, found: Mapping[Leg, Sequence[ScoredPoint]], text: str) -> bool:
        """Whether no leg found anything for the text that a meaningless one would not find as well; False where no vector was compared."""
        self._look()
        measured = self._measured
        if measured is None or measured.model_version != self._ports.index.model_version:
            return False
        if not any(found.get(leg) for leg in VECTOR_LEGS):
            return False
        words = query_weights(text)
        if any(_best(leg, found[leg], len(words)) > limit for leg, limit in measured.limits.items() if leg in found):
            return False
        return not self._speaks_so(words, found.get(Leg.LEXICAL, ()))

    def _speaks_so(self, words: Words, found: Sequence[ScoredPoint]) -> bool:
        """Whether the library itself puts it so: several words together in one compound, or a word in many. Common words weigh little, and
        a short query of them scores no more than one rare word by chance."""
        if len(words) == 1:
            return len(found) >= _USUAL_WORD
        points = found[:_LOOKED_AT]
        if not points or len(words) > _SHORT_WORDS:
            return False
        questions = [Question(Leg.LEXICAL, {word: 1.0}) for word in words]
        holders = self._ports.index.search_legs(questions, len(points), only=[point.id for point in points])
        return bool(set.intersection(*({point.id for point in holding} for holding in holders)))

    def refresh(self) -> None:
        """Measures anew where the model is another one or the index has grown or shrunk by much."""
        self._looked = time.monotonic()
        count, version = self._ports.index.count(), self._ports.index.model_version
        measured = self._measured
        alike = measured is not None and measured.model_version == version and count <= GROWTH * measured.count <= GROWTH**2 * max(count, 1)
        if not alike and count:
            self._measured = measure(self._ports)

    def _look(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked < LOOK_SECONDS:
                return
            self._looked = time.monotonic()
        threading.Thread(target=self._refresh_quietly, name="match-judge", daemon=True).start()

    def _refresh_quietly(self) -> None:
        try:
            self.refresh()
        except Exception:
            # The service is closing or busy, in as many ways as it has parts: judged by the former measure, or not at all, until the next look.
            log.info("scores of meaningless queries could not be measured", exc_info=True)
