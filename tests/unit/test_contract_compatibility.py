"""The contract stays compatible with its committed baseline, and the check that says so sees every kind of break."""

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from atomas.v1 import (
    access_service_pb2,
    embedding_service_pb2,
    generation_service_pb2,
    library_pb2,
    library_service_pb2,
    model_service_pb2,
    search_service_pb2,
    structure_service_pb2,
)
from proto.compatibility import breaking_changes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def baseline() -> FileDescriptorSet:
    return FileDescriptorSet.FromString((ROOT / "proto" / "baseline.binpb").read_bytes())


def present_contract() -> FileDescriptorSet:
    """The contract as the committed stubs hold it."""
    contract = FileDescriptorSet()
    for module in (
        access_service_pb2,
        embedding_service_pb2,
        generation_service_pb2,
        library_pb2,
        library_service_pb2,
        model_service_pb2,
        search_service_pb2,
        structure_service_pb2,
    ):
        module.DESCRIPTOR.CopyToProto(contract.file.add())
    return contract


def message(contract: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(m for file in contract.file for m in file.message_type if m.name == name)


def field(contract: FileDescriptorSet, of: str, name: str) -> FieldDescriptorProto:
    return next(f for f in message(contract, of).field if f.name == name)


def service(contract: FileDescriptorSet, name: str) -> ServiceDescriptorProto:
    return next(s for file in contract.file for s in file.service if s.name == name)


def target_enum(contract: FileDescriptorSet) -> EnumDescriptorProto:
    return message(contract, "SearchCompoundsRequest").enum_type[0]


def test_clients_of_the_baseline_still_understand_the_contract(baseline: FileDescriptorSet) -> None:
    assert breaking_changes(baseline, present_contract()) == []


def test_every_file_of_the_contract_is_checked() -> None:
    files = {f"atomas/v1/{path.name}" for path in (ROOT / "proto" / "atomas" / "v1").glob("*.proto")}
    assert {file.name for file in present_contract().file} == files


def remove_message(contract: FileDescriptorSet) -> None:
    file = next(file for file in contract.file if file.name == "atomas/v1/library.proto")
    file.message_type.remove(message(contract, "Descriptors"))


def remove_nested_message(contract: FileDescriptorSet) -> None:
    parent = message(contract, "ImportCompoundsRequest")
    parent.nested_type.remove(next(nested for nested in parent.nested_type if nested.name == "Finish"))


def remove_field(contract: FileDescriptorSet) -> None:
    message(contract, "Compound").field.remove(field(contract, "Compound", "smiles"))


def remove_nested_field(contract: FileDescriptorSet) -> None:
    start = next(nested for nested in message(contract, "ImportCompoundsRequest").nested_type if nested.name == "Start")
    start.field.remove(next(f for f in start.field if f.name == "request_id"))


def renumber_field(contract: FileDescriptorSet) -> None:
    field(contract, "Compound", "smiles").number = 99


def rename_field(contract: FileDescriptorSet) -> None:
    field(contract, "Compound", "smiles").name = "structure"


def retype_field(contract: FileDescriptorSet) -> None:
    field(contract, "SearchHit", "score").type = FieldDescriptorProto.TYPE_FLOAT


def retype_message_field(contract: FileDescriptorSet) -> None:
    field(contract, "SearchHit", "compound").type_name = ".atomas.v1.Library"


def repeat_field(contract: FileDescriptorSet) -> None:
    field(contract, "Compound", "smiles").label = FieldDescriptorProto.LABEL_REPEATED


def leave_oneof(contract: FileDescriptorSet) -> None:
    field(contract, "SearchCompoundsRequest", "text").ClearField("oneof_index")


def enter_oneof(contract: FileDescriptorSet) -> None:
    field(contract, "SearchCompoundsRequest", "filter").oneof_index = 0


def take_reserved_number(contract: FileDescriptorSet) -> None:
    message(contract, "LegScore").field.add(name="new", number=1000, type=FieldDescriptorProto.TYPE_BOOL)


def remove_enum(contract: FileDescriptorSet) -> None:
    message(contract, "SearchCompoundsRequest").enum_type.remove(target_enum(contract))


def remove_enum_value(contract: FileDescriptorSet) -> None:
    del target_enum(contract).value[2]


def renumber_enum_value(contract: FileDescriptorSet) -> None:
    target_enum(contract).value[2].number = 7


def remove_service(contract: FileDescriptorSet) -> None:
    file = next(file for file in contract.file if file.name == "atomas/v1/search_service.proto")
    file.service.remove(service(contract, "SearchService"))


def remove_method(contract: FileDescriptorSet) -> None:
    del service(contract, "ModelService").method[0]


def change_input(contract: FileDescriptorSet) -> None:
    service(contract, "SearchService").method[0].input_type = ".atomas.v1.SearchHit"


def change_output(contract: FileDescriptorSet) -> None:
    service(contract, "SearchService").method[0].output_type = ".atomas.v1.SearchHit"


def start_streaming(contract: FileDescriptorSet) -> None:
    service(contract, "SearchService").method[0].server_streaming = True


def stop_streaming(contract: FileDescriptorSet) -> None:
    next(m for m in service(contract, "LibraryService").method if m.name == "ImportCompounds").client_streaming = False


def change_package(contract: FileDescriptorSet) -> None:
    for file in contract.file:
        file.package = "atomas.v2"


@pytest.mark.parametrize(
    ("mutate", "complaint"),
    [
        (remove_message, "Message atomas.v1.Descriptors was removed."),
        (remove_nested_message, "Message atomas.v1.ImportCompoundsRequest.Finish was removed."),
        (remove_field, "Field atomas.v1.Compound.smiles was removed."),
        (remove_nested_field, "Field atomas.v1.ImportCompoundsRequest.Start.request_id was removed."),
        (renumber_field, "Field atomas.v1.Compound.smiles was renumbered from 5 to 99."),
        (rename_field, "Field atomas.v1.Compound.smiles was renamed to structure."),
        (retype_field, "Field atomas.v1.SearchHit.score was retyped from TYPE_DOUBLE to TYPE_FLOAT."),
        (retype_message_field, "Field atomas.v1.SearchHit.compound was retyped from .atomas.v1.Compound to .atomas.v1.Library."),
        (repeat_field, "Field atomas.v1.Compound.smiles went from LABEL_OPTIONAL to LABEL_REPEATED."),
        (leave_oneof, "Field atomas.v1.SearchCompoundsRequest.text moved from oneof asked to no oneof."),
        (enter_oneof, "Field atomas.v1.SearchCompoundsRequest.filter moved from no oneof to oneof asked."),
        (take_reserved_number, "Field atomas.v1.LegScore.new takes the reserved number 1000."),
        (remove_enum, "Enum atomas.v1.SearchCompoundsRequest.Target was removed."),
        (remove_enum_value, "Enum value atomas.v1.SearchCompoundsRequest.Target.TEXTS was removed."),
        (renumber_enum_value, "Enum value atomas.v1.SearchCompoundsRequest.Target.TEXTS was renumbered from 2 to 7."),
        (remove_service, "Service atomas.v1.SearchService was removed."),
        (remove_method, "Method atomas.v1.ModelService.GetModel was removed."),
        (change_input, "Method atomas.v1.SearchService.SearchCompounds takes .atomas.v1.SearchHit instead of"),
        (change_output, "Method atomas.v1.SearchService.SearchCompounds answers .atomas.v1.SearchHit instead of"),
        (start_streaming, "Method atomas.v1.SearchService.SearchCompounds changed its streaming."),
        (stop_streaming, "Method atomas.v1.LibraryService.ImportCompounds changed its streaming."),
        (change_package, "Service atomas.v1.SearchService was removed."),
    ],
)
def test_every_kind_of_break_is_seen(baseline: FileDescriptorSet, mutate: Callable[[FileDescriptorSet], None], complaint: str) -> None:
    message(baseline, "LegScore").reserved_range.add(start=1000, end=1001)
    changed = FileDescriptorSet.FromString(baseline.SerializeToString())
    mutate(changed)
    found = breaking_changes(baseline, changed)
    assert any(each.startswith(complaint) for each in found), found
    if mutate is not change_package:
        assert len(found) == 1


def test_additions_break_nothing(baseline: FileDescriptorSet) -> None:
    grown = FileDescriptorSet.FromString(baseline.SerializeToString())
    message(grown, "Compound").field.add(
        name="new", number=900, type=FieldDescriptorProto.TYPE_STRING, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    target_enum(grown).value.add(name="NEW", number=9)
    service(grown, "SearchService").method.add(name="New", input_type=".atomas.v1.Compound", output_type=".atomas.v1.Compound")
    grown.file.add(name="atomas/v1/new.proto", package="atomas.v1").message_type.add(name="New")
    assert breaking_changes(baseline, grown) == []
