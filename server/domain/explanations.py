"""Why a text finds a molecule, as every part of the service passes it on: numbers and strings alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Phrases are told apart by these: legible on white and on black, and for eyes that confuse red and green (Okabe and Ito, 2008).
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#0072b2")
# A phrase points at an atom when its share there is this many times the mean.
POINTS_AT = 1.5


@dataclass(frozen=True)
class Phrase:
    """Consecutive words of the text and the atoms that they point at."""

    start: int
    end: int
    weight: float
    atom_weights: Sequence[float]


@dataclass(frozen=True)
class Cluster:
    """Tokens that are one on a level: places of a text (start and end in turn), or atoms of a molecule."""

    spans: Sequence[int]
    atoms: Sequence[int]
    weight: float


@dataclass(frozen=True)
class AlignedLevel:
    """One level of the hierarchy; similarities row by row, one row per text cluster."""

    name: str
    text_clusters: Sequence[Cluster]
    molecule_clusters: Sequence[Cluster]
    similarities: Sequence[float]


@dataclass(frozen=True)
class Explanation:
    """Cosine of text and molecule, what each phrase points at, and how the levels align."""

    score: float
    phrases: Sequence[Phrase]
    levels: Sequence[AlignedLevel]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Explanation":
        """Reads what `to_json` wrote; KeyError or TypeError when something is missing."""
        return cls(
            values["score"],
            tuple(Phrase(**phrase) for phrase in values["phrases"]),
            tuple(
                AlignedLevel(
                    level["name"],
                    tuple(Cluster(**cluster) for cluster in level["text_clusters"]),
                    tuple(Cluster(**cluster) for cluster in level["molecule_clusters"]),
                    tuple(level["similarities"]),
                )
                for level in values["levels"]
            ),
        )


@dataclass(frozen=True)
class Coloured:
    """Which phrase is shown in which colour, and which atoms with it."""

    phrases: Sequence[str]
    """Colour of each phrase, empty for those that point at nothing in particular."""
    atoms: tuple[tuple[int, str], ...]


def coloured(phrases: Sequence[Phrase]) -> Coloured:
    """Give the phrases that count most a colour each, and every atom the colour of the phrase that points at it most."""
    pointed: dict[int, tuple[float, int]] = {}
    for place, phrase in enumerate(phrases):
        for atom, share in enumerate(phrase.atom_weights):
            strength = phrase.weight * share
            if share * len(phrase.atom_weights) >= POINTS_AT and strength > pointed.get(atom, (0.0, 0))[0]:
                pointed[atom] = strength, place
    pointing = sorted({place for _, place in pointed.values()}, key=lambda place: (-phrases[place].weight, place))[: len(COLOURS)]
    colour_of = dict(zip(sorted(pointing), COLOURS, strict=False))
    return Coloured(
        tuple(colour_of.get(place, "") for place in range(len(phrases))),
        tuple((atom, colour_of[place]) for atom, (_, place) in sorted(pointed.items()) if place in colour_of),
    )
