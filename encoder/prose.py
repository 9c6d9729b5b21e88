"""How descriptions of molecules are worded: one opening for all, and which manner a text is written in."""

import re
from enum import IntEnum


class Manner(IntEnum):
    """Kinds of text about a molecule that a decoder is trained to write, and asked for by."""

    PROSE = 0
    """A definition with roles, classes and relations, as ChEBI's descriptions are."""
    CLASSES = 1
    """Classes and roles only, a line or less."""
    NAME = 2
    """The common name."""
    SYSTEMATIC_NAME = 3
    """The IUPAC name."""
    OTHER = 4
    """Where it is found, what it looks like, what it is used for."""


SUBJECT = "The molecule"
"""How every description names its molecule, so that the name is not part of the description."""

_IT = re.compile(r"^it(?=,? (?:is|was|has|are|appears|belongs|also)\b)", re.IGNORECASE)
_DEFINITION = re.compile(rf"^{SUBJECT} is (?!(?:also|considered|found|insoluble|not|slightly|soluble|under|used|very)\b)\S")
_ELSEWHERE = re.compile(
    r"natural product found|class of organic compounds known as|investigation in clinical|\bodor\b|\(NTP|^\S+ \S+ is an? \S+ used "
)
_SHORTEST_PROSE = 15
"""Words; the shortest description of ChEBI-20 has 20."""


def normalise(text: str) -> str:
    """The text with one space between words, beginning "The molecule is" where it began "It is"."""
    return _IT.sub(SUBJECT, " ".join(text.split()))


def is_definition(text: str) -> bool:
    """Whether a normalised text says what the molecule is, as ChEBI does, and neither where it was found nor what it is used for."""
    return bool(_DEFINITION.match(text)) and not _ELSEWHERE.search(text)


def manner_of(text: str) -> Manner:
    """The manner of a normalised description, not of a name."""
    if _ELSEWHERE.search(text):
        return Manner.OTHER
    if _DEFINITION.match(text):
        return Manner.PROSE if len(text.split()) >= _SHORTEST_PROSE else Manner.CLASSES
    return Manner.CLASSES if text.startswith(f"{SUBJECT} has a role") else Manner.OTHER
