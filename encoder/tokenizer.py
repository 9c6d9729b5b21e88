"""Cuts texts into words and SMILES into atoms, bonds, branches and ring closures, losing nothing."""

import re

_TEXT_UNIT = re.compile(r"[^\W\d_]+|\d+|\S")
_SMILES_UNIT = re.compile(r"\[[^\[\]]*\]|%\(\d+\)|%\d\d|->|<-|Br|Cl|.", re.DOTALL)
_ORGANIC_ATOMS = frozenset(("B", "C", "N", "O", "P", "S", "F", "Cl", "Br", "I", "b", "c", "n", "o", "p", "s", "*"))

_GREEK_LETTERS = "αβγδεζηθικλμνξπρστυφχψω"
_GREEK_NAMES = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega".split()  # noqa: SIM905
# Chemists type the same name with Greek letters or their names, with curly or straight primes: one spelling serves all.
_FOLDED = str.maketrans(
    {
        **{letter: f" {name} " for letter, name in zip(_GREEK_LETTERS, _GREEK_NAMES, strict=True)},
        "ς": " sigma ",
        "µ": " mu ",
        **dict.fromkeys("‐‑‒–—−", "-"),
        **dict.fromkeys("‘’′", "'"),
        **dict.fromkeys("“”″", '"'),
    }
)


def split_text(text: str) -> list[str]:
    """Split a text into lower-case words, numbers and single signs; characters of any alphabet survive, white space does not.

    Greek letters become their names and typographic dashes and primes plain ones.
    """
    return _TEXT_UNIT.findall(text.lower().translate(_FOLDED))


def locate_words(text: str) -> list[tuple[int, int]]:
    """First character and the one after the last of each token of `split_text`, in the text as it was written."""
    folded = [character.lower().translate(_FOLDED) for character in text]
    origins = [place for place, characters in enumerate(folded) for _ in characters]
    return [(origins[unit.start()], origins[unit.end() - 1] + 1) for unit in _TEXT_UNIT.finditer("".join(folded))]


def split_smiles(smiles: str) -> list[str]:
    """Split a SMILES into tokens whose concatenation is the input, whatever the input is.

    A bracket atom, an organic-subset atom, a bond, a branch parenthesis and a ring closure (`1`, `%12`, `%(123)`) are one token each.
    """
    return _SMILES_UNIT.findall(smiles)


def is_atom(token: str) -> bool:
    """Whether a SMILES token stands for an atom."""
    return token[0] == "[" or token in _ORGANIC_ATOMS


class SmilesVocabulary:
    """Numbers SMILES tokens; a token it has not learnt is spelt in characters, so that decoding gives back every ASCII SMILES.

    The first 95 ids are the printable ASCII characters (backslash included), then come the learnt tokens of several characters.
    """

    def __init__(self, tokens: list[str]) -> None:
        characters = [chr(code) for code in range(32, 127)]
        self.tokens: tuple[str, ...] = (*characters, *(token for token in tokens if len(token) > 1))
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError("the SMILES vocabulary names a token twice")

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, smiles: str) -> list[int]:
        """Return token ids; ValueError when a character is not printable ASCII, which no SMILES holds."""
        ids: list[int] = []
        for token in split_smiles(smiles):
            known = self._ids.get(token)
            if known is not None:
                ids.append(known)
                continue
            for character in token:
                if character not in self._ids:
                    raise ValueError(f"a SMILES holds only printable ASCII characters, not {character!r}")
                ids.append(self._ids[character])
        return ids

    def decode(self, ids: list[int]) -> str:
        """Return the SMILES of token ids."""
        return "".join(self.tokens[index] for index in ids)
