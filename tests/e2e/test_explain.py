"""Explanations through the API and the command line."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from atomas import Client, InvalidArgumentError
from tests.running import RunningServer


def test_the_acid_of_the_text_is_the_acid_of_the_molecule(client: Client) -> None:
    found = client.explain("a benzoic acid with a bromine atom", structure="OC(=O)c1ccc(Br)cc1", substructure="C(=O)[OH]", draw=True)
    assert found.smiles == "O=C(O)c1ccc(Br)cc1"
    bromine = next(phrase for phrase in found.phrases if "bromine" in phrase.text)
    assert bromine.text == "a benzoic acid with a bromine atom"[bromine.start : bromine.end]
    assert max(range(10), key=bromine.atom_weights.__getitem__) == 7
    assert set(found.matched_atoms) == {0, 1, 2}
    assert ElementTree.fromstring(found.svg).tag.endswith("svg")


def test_a_stored_compound_is_explained_by_any_query(client: Client) -> None:
    hit = client.search("caffeine", library="chebi", limit=1).hits[0]
    found = client.explain("a trimethylxanthine alkaloid", compound=hit.compound)
    assert found.smiles == hit.compound.smiles
    assert sum(phrase.weight for phrase in found.phrases) == pytest.approx(1, abs=1e-4)
    assert found.svg == ""


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"structure": "CCO"}, "EMPTY_QUERY"),
        ({"text": "an alcohol"}, "INVALID_ARGUMENT"),
        ({"text": "an alcohol", "structure": "C(("}, "INVALID_SMILES"),
        ({"structure": "CCO", "substructure": "[C"}, "INVALID_SMARTS"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_its_reason(client: Client, asked: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client.explain(**asked)  # type: ignore[arg-type]  # fields by name
    assert caught.value.reason == reason


def test_the_command_prints_phrases_and_draws(server: RunningServer, tmp_path: Path) -> None:
    drawing = tmp_path / "drawing.svg"
    command = [sys.executable, "-m", "atomas.cli", "explain", "CCN", "an amine", "--svg", str(drawing), "--address", server.address]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "amine" in done.stdout
    assert drawing.read_text().startswith("<svg")
