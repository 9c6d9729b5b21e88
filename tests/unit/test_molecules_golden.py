"""The molecule standard is part of every model's name: it may change only together with its version."""

import json
from typing import Any

import pytest

from encoder.molecules import STANDARD_VERSION, standardise
from tests.golden.molecules import GOLDEN, golden

KEPT = json.loads(GOLDEN.read_text())


def test_the_golden_molecules_belong_to_this_version() -> None:
    assert KEPT["standard_version"] == STANDARD_VERSION
    assert len(KEPT["molecules"]) >= 200


def test_two_hundred_molecules_come_out_as_they_did_under_this_version() -> None:
    for kept in KEPT["molecules"]:
        now = golden(kept["given"], standardise(kept["given"]))
        assert without_floats(now) == without_floats(kept)
        # Sums of floats may differ in the last bit between processors.
        assert floats(now) == pytest.approx(floats(kept), rel=1e-9, abs=1e-9)


def floats(molecule: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in molecule["descriptors"].items() if isinstance(value, float)}


def without_floats(molecule: dict[str, Any]) -> dict[str, Any]:
    exact = {name: value for name, value in molecule["descriptors"].items() if not isinstance(value, float)}
    return {**molecule, "descriptors": exact}
