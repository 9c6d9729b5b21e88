"""Names as people write them: one form for every spelling, and numbers by which names one typo away are found without comparing all."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

# Shorter names have too many neighbours to guess among, longer ones are structures in words that nobody types.
MIN_NEAR_CHARACTERS, MAX_NEAR_CHARACTERS = 5, 500
# Longer texts are no names; nothing is searched for them.
MAX_NAME_CHARACTERS = 2_000

_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρσςτυφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma sigma tau upsilon phi chi psi omega".split(),  # noqa: SIM905
        strict=True,
    )
)
_SPELLED = str.maketrans(_GREEK)


def spelled(text: str) -> str:
    """Lower-case, Greek letters as words, no accents, one form of every sign: `Δ⁹-THC` -> `delta9-thc`."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold().translate(_SPELLED)


def normalised(name: str) -> str:
    """The letters and digits of a name alone: spaces, hyphens, commas, brackets, primes and signs of rotation are spelled in too many ways."""
    said = spelled(name)
    return re.sub(r"[\W_]", "", said)


def name_key(name: str) -> int | None:
    """The number of a name, the same for every spelling; None when nothing of it can be looked up."""
    said = normalised(name)
    return _number("n", said) if said and len(name) <= MAX_NAME_CHARACTERS else None


def id_key(source_id: str) -> int | None:
    """The number of a source record's id; never that of a name."""
    said = normalised(source_id)
    return _number("i", said) if said and len(source_id) <= MAX_NAME_CHARACTERS else None


def keys_of(names: Iterable[str], source_ids: Iterable[str]) -> set[int]:
    """Every number under which a compound of these names and ids is found."""
    keys = {key for key in map(id_key, source_ids) if key is not None}
    for name in names:
        said = normalised(name)
        if said and len(name) <= MAX_NAME_CHARACTERS:
            keys.add(_number("n", said))
            if MIN_NEAR_CHARACTERS <= len(said) <= MAX_NEAR_CHARACTERS:
                keys.update(_near(said))
    return keys


def near_keys(name: str) -> set[int]:
    """Numbers of which every name has one that a typo turns into this one: a letter too many, too few, another, or two swapped.

    A name is cut into thirds. One typo spoils one of them, so the other two still agree, and only the name's length is uncertain by one
    (Li, Deng, Feng: Pass-Join, VLDB 2012, for two of three parts). A swap across a cut spoils two: it is undone here.
    """
    said = normalised(name)
    length = len(said)
    keys: set[int] = set()
    for of in (length - 1, length, length + 1):
        if not MIN_NEAR_CHARACTERS <= of <= MAX_NEAR_CHARACTERS:
            continue
        first, second = _cuts(of)
        head, tail = said[:second], said[length - (of - first) :]
        keys.update(_thirds(of, said[:first], head, said[length - (of - second) :], tail))
    for cut in _cuts(length):
        if 0 < cut < length:
            keys.add(_number("n", said[: cut - 1] + said[cut] + said[cut - 1] + said[cut + 1 :]))
    return keys


def _near(said: str) -> tuple[int, int, int]:
    first, second = _cuts(len(said))
    return _thirds(len(said), said[:first], said[:second], said[second:], said[first:])


def _thirds(length: int, first: str, without_last: str, last: str, without_first: str) -> tuple[int, int, int]:
    return (
        _number(f"a{length}", without_last),
        _number(f"b{length}", without_first),
        _number(f"c{length}", f"{first} {last}"),
    )


def _cuts(length: int) -> tuple[int, int]:
    return length // 3, 2 * length // 3


def _number(kind: str, text: str) -> int:
    """64 bits with a sign, as databases count."""
    digest = hashlib.blake2b(f"{kind} {text}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
