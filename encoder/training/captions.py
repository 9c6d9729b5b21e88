"""What the decoder learns from: molecules with their names and texts, and the examples made of them for both directions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from encoder.model.decoder import Task
from encoder.prose import Manner, manner_of
from encoder.tokenizer import split_smiles
from encoder.training.dataset import NAMES, Pair
from encoder.training.wording import chebi_wording, member_of_plurals

SYSTEMATIC_NAMES = "iupac"
"""The kind of pairs whose text is an IUPAC name."""

CHEBI = frozenset({"chebi_text", "chebi_class"})
"""The kinds of pairs whose texts were put together from ChEBI's fields, classes as ChEBI names them."""


@dataclass(frozen=True, slots=True)
class Example:
    """A molecule and a text: either may be read and the other written."""

    molecule: int
    manner: Manner
    text: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Molecules, each once by InChIKey, and all that is known of them."""

    smiles: list[str]
    inchikeys: list[str]
    names: list[str]
    """The common name of each molecule, or nothing."""
    texts: list[str]
    """The text of each molecule that its neighbours may copy from, prose where there is any, or nothing."""
    examples: list[Example]
    """Every text of every molecule, without repetitions."""


def gather(pairs: Iterable[Pair]) -> Corpus:
    """Sort pairs by molecule, bring their texts to one wording, and drop repeated ones."""
    pairs = list(pairs)
    own_names: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.kind == NAMES:
            own_names.setdefault(pair.inchikey, []).extend(pair.text.split("; "))
    places: dict[str, int] = {}
    corpus = Corpus([], [], [], [], [])
    seen: set[tuple[int, str]] = set()
    for pair in pairs:
        place = places.setdefault(pair.inchikey, len(places))
        if place == len(corpus.smiles):
            corpus.smiles.append(pair.smiles)
            corpus.inchikeys.append(pair.inchikey)
            corpus.names.append("")
            corpus.texts.append("")
        example = _example(pair, place, own_names.get(pair.inchikey, ()))
        if (place, example.text.lower()) in seen:
            continue
        seen.add((place, example.text.lower()))
        corpus.examples.append(example)
        if example.manner == Manner.NAME:
            corpus.names[place] = corpus.names[place] or example.text.strip()
        elif example.manner != Manner.SYSTEMATIC_NAME:
            corpus.texts[place] = min(corpus.texts[place], example.text, key=_worth)
    return corpus


def _example(pair: Pair, place: int, names: Sequence[str]) -> Example:
    # Names begin with a space, as they do within a text: their pieces are then the same.
    if pair.kind == NAMES:
        return Example(place, Manner.NAME, " " + pair.text.split("; ")[0].strip())
    if pair.kind == SYSTEMATIC_NAMES:
        return Example(place, Manner.SYSTEMATIC_NAME, " " + pair.text.strip())
    text = chebi_wording(pair.text, names)
    if pair.kind in CHEBI:
        text = member_of_plurals(text)
    return Example(place, manner_of(text), text)


def _worth(text: str) -> tuple[bool, int, int]:
    """Sorts texts that may be copied from: any before none, by manner, longer before shorter."""
    return (not text, int(manner_of(text)), -len(text)) if text else (True, 0, 0)


def smiles_tokens(smiles: Iterable[str], least: int = 3) -> list[str]:
    """The tokens of several characters that occur at least so often, the most frequent first."""
    seen = Counter(token for text in smiles for token in split_smiles(text) if len(token) > 1)
    return [token for token, count in sorted(seen.items(), key=lambda item: (-item[1], item[0])) if count >= least]


def vocabulary_texts(examples: Sequence[Example]) -> list[str]:
    """The texts from which the text vocabulary is learnt; systematic names are left out, whose pieces would displace the words."""
    return [example.text for example in examples if example.manner != Manner.SYSTEMATIC_NAME]


def directions(example: Example) -> tuple[Task, ...]:
    """The directions in which an example is of use: classes alone do not tell which molecule is meant."""
    return (Task.DESCRIBE,) if example.manner == Manner.CLASSES else (Task.DESCRIBE, Task.GENERATE)
