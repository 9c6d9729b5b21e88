"""Names: one form for every spelling, and neighbours by one typo."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.names import MIN_NEAR_CHARACTERS, id_key, keys_of, name_key, near_keys, normalised


@pytest.mark.parametrize(
    "spellings",
    [
        ("β-carotene", "beta-Carotene", "Beta carotene", "BETA‐CAROTENE", "betacarotene"),
        ("2',3'-dideoxyadenosine", "2′,3′-Dideoxyadenosine", "2’,3’ dideoxyadenosine"),
        ("(+)-camphor", "camphor", "(-)-Camphor", "(±)-camphor"),
        ("Δ⁹-tetrahydrocannabinol", "delta9-tetrahydrocannabinol", "Delta(9)-tetrahydrocannabinol"),
        ("N,N-dimethylaniline", "n n dimethylaniline", "N,N‑dimethylaniline"),
        ("kieselsäure", "KIESELSÄURE", "kieselsa\u0308ure"),
        ("µ-opioid", "μ-opioid", "mu-opioid"),
    ],
)
def test_spellings_of_a_name_have_one_key(spellings: tuple[str, ...]) -> None:
    assert len({name_key(spelling) for spelling in spellings}) == 1


def test_names_that_differ_in_letters_or_digits_have_other_keys() -> None:
    names = ["butanol", "butanal", "1-butanol", "2-butanol", "D-glucose", "L-glucose", "glucose"]
    assert len({name_key(name) for name in names}) == len(names)


def test_an_id_is_no_name() -> None:
    assert id_key("CHEBI:27732") == id_key("chebi 27732") != name_key("CHEBI:27732")


@pytest.mark.parametrize("nothing", ["", "  ", "(+)", "---", "💊", "x" * 3_000])
def test_what_has_no_letters_or_is_too_long_has_no_key(nothing: str) -> None:
    assert name_key(nothing) is None
    assert keys_of([nothing], []) == set()


def test_half_a_character_does_not_break_a_key() -> None:
    assert name_key("caffeine \ud83d") is not None


LETTERS = string.ascii_lowercase[:6]
NAMES = st.text(LETTERS, min_size=MIN_NEAR_CHARACTERS, max_size=30)


@given(name=NAMES, place=st.integers(0, 40), letter=st.sampled_from(LETTERS), kind=st.sampled_from(["insert", "delete", "replace", "swap"]))
def test_a_typo_leaves_a_key_in_common(name: str, place: int, letter: str, kind: str) -> None:
    at = place % len(name)
    typed = {
        "insert": name[:at] + letter + name[at:],
        "delete": name[:at] + name[at + 1 :],
        "replace": name[:at] + letter + name[at + 1 :],
        "swap": name[:at] + name[at : at + 2][::-1] + name[at + 2 :],
    }[kind]
    assert keys_of([name], []) & {*near_keys(typed), name_key(typed)}


@given(name=NAMES)
def test_a_name_has_few_keys_however_long(name: str) -> None:
    assert len(keys_of([name], ["A:1"])) == 5
    assert len(near_keys(name)) <= 11
    assert normalised(name) == name
