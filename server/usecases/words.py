"""Words for the lexical leg: what chemists' texts are cut into, and how much each says of a compound (BM25 over weighted fields)."""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from server.domain.compounds import Compound
from server.domain.names import spelled
from server.ports import Words

# BM25F (Robertson, Zaragoza: The Probabilistic Relevance Framework, 2009) with its usual constants; the index adds each word's rarity.
SATURATION, LENGTH_SHARE = 1.2, 0.75
# Weight of each field, and its usual length in words; lengths are those of the shipped library.
FIELDS = {"names": (2.0, 40.0), "keywords": (1.5, 8.0), "texts": (1.0, 30.0)}
# Words of descriptions that say nothing of a molecule.
COMMON = frozenset(
    "a an and are as at by for from has have in is it its of on or that the this to was which with role member molecule compound derives".split()  # noqa: SIM905
)
# A text longer than any description says nothing more with its last words.
MAX_WORDS = 5_000

_CHUNK = re.compile(r"[^\s()\[\]{};]+")
_PART = re.compile(r"[^\W_]+")


def document_words(compound: Compound, keywords: Sequence[str]) -> Words:
    """Words of the compound's names, keywords and descriptions with their weights; empty when nothing is said of it."""
    fields = {
        "names": (compound.display_name, *compound.synonyms, *compound.source_ids),
        "keywords": keywords,
        "texts": compound.descriptions,
    }
    frequencies: dict[str, float] = {}
    for field, texts in fields.items():
        weight, usual = FIELDS[field]
        counts = Counter(word for text in texts for word in words_of(text)[:MAX_WORDS])
        length = 1 - LENGTH_SHARE + LENGTH_SHARE * counts.total() / usual
        for word, count in counts.items():
            frequencies[word] = frequencies.get(word, 0.0) + weight * count / length
    weights: dict[int, float] = {}
    for word, frequency in frequencies.items():
        # Two words with one number are rarer than one in a million; the weightier counts.
        number = word_number(word)
        weights[number] = max(weights.get(number, 0.0), frequency * (SATURATION + 1) / (SATURATION + frequency))
    return weights


def query_weights(text: str) -> Mapping[int, float]:
    """The words of a query, each once: what they weigh is up to their rarity."""
    return {word_number(word): 1.0 for word in words_of(text)[:MAX_WORDS]}


def words_of(text: str) -> list[str]:
    """Words in order: parts without plural endings, and what hyphens, commas or colons join also as one (`11-oxo`: 11, oxo, 11oxo)."""
    found = []
    for chunk in _CHUNK.findall(spelled(text)):
        parts = _PART.findall(chunk)
        found += [stem for part in parts if (stem := _stem(part)) not in COMMON]
        if len(parts) > 1:
            found.append("".join(parts))
    return found


def _stem(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]


@functools.lru_cache(maxsize=100_000)
def word_number(word: str) -> int:
    """32 bits, the same everywhere and for ever: stored points are searched by it."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest(), "little")
