"""Tables that must name the same things: reasons and codes, descriptors in domain, chemistry and contract, settings and their reference."""

import dataclasses
import pathlib

from atomas.v1 import library_pb2
from encoder.descriptors import Descriptors
from encoder.structures import Reason as MoleculeReason
from server.domain.compounds import NUMERIC_DESCRIPTORS, TEXT_DESCRIPTORS
from server.domain.errors import AtomasError, Reason
from server.rpc.errors import CODES, status_of
from server.settings import Settings, as_markdown, environment_name

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_reason_has_a_code() -> None:
    assert set(CODES) == set(Reason)


def test_every_reason_of_the_chemistry_door_is_a_reason_of_the_service() -> None:
    assert {reason.value for reason in MoleculeReason} <= {reason.value for reason in Reason}


def test_overload_says_when_to_try_again() -> None:
    kinds = [detail.TypeName() for detail in status_of(AtomasError(Reason.OVERLOADED, "busy"), "id-1").details]
    assert kinds == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]


def test_chemistry_contract_and_filters_know_the_same_descriptors() -> None:
    named = {*NUMERIC_DESCRIPTORS, *TEXT_DESCRIPTORS}
    assert {field.name for field in library_pb2.Descriptors.DESCRIPTOR.fields} == named
    assert named <= {field.name for field in dataclasses.fields(Descriptors)}


def test_the_reference_of_settings_is_fresh() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == as_markdown(), "run: python -m server settings > docs/settings.md"


def test_every_setting_says_what_it_means() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{environment_name(name)} has no description"
