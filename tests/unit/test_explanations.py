"""Explanations as values: colours that tell phrases apart, and the way over JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st

from server.domain.explanations import COLOURS, AlignedLevel, Cluster, Explanation, Phrase, coloured

shares = st.floats(0, 1, allow_nan=False)
phrases = st.integers(1, 8).flatmap(
    lambda atoms: st.lists(st.builds(Phrase, st.just(0), st.just(1), shares, st.tuples(*[shares] * atoms)), max_size=12)
)


def test_an_atom_has_the_colour_of_the_phrase_that_points_at_it_most() -> None:
    acid = Phrase(0, 4, 0.7, (0.0, 0.0, 0.5, 0.5))
    amine = Phrase(8, 13, 0.3, (0.9, 0.0, 0.1, 0.0))
    found = coloured([acid, amine])
    assert found.phrases == (COLOURS[0], COLOURS[1])
    assert found.atoms == ((0, COLOURS[1]), (2, COLOURS[0]), (3, COLOURS[0]))


def test_a_phrase_that_points_everywhere_has_no_colour() -> None:
    assert coloured([Phrase(0, 4, 1.0, (0.25,) * 4)]).phrases == ("",)


@given(phrases)
def test_every_colour_shown_belongs_to_one_phrase_and_an_atom(found: list[Phrase]) -> None:
    shown = coloured(found)
    used = [colour for colour in shown.phrases if colour]
    assert len(used) == len(set(used)) <= len(COLOURS)
    assert {colour for _, colour in shown.atoms} <= set(used)
    assert len(dict(shown.atoms)) == len(shown.atoms)


def test_an_explanation_survives_json() -> None:
    level = AlignedLevel("atom", (Cluster((0, 4, 5, 9), (), 1.0),), (Cluster((), (0, 1), 1.0),), (0.5,))
    explanation = Explanation(0.25, (Phrase(0, 4, 1.0, (0.5, 0.5)),), (level,))
    said = Explanation.from_json(json.loads(json.dumps(explanation.to_json())))
    assert json.dumps(said.to_json()) == json.dumps(explanation.to_json())
