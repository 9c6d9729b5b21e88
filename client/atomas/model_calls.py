"""Calls about models as data: filling the index of another one, comparing, activating, deleting."""

from collections.abc import Sequence

from google.longrunning import operations_proto_pb2 as longrunning
from google.protobuf import empty_pb2

from atomas import codec
from atomas.calls import Call, model_name
from atomas.types import Comparison, Model, ModelComparison, Operation
from atomas.v1 import model_service_pb2 as model

_MODEL = "/atomas.v1.ModelService/"


def reindex(path: str) -> Call[Operation]:
    request = model.ReindexCompoundsRequest(path=path)
    return Call(_MODEL + "ReindexCompounds", request, longrunning.Operation.FromString, codec.decode_operation)


def compare_models(name: str | Model, texts: Sequence[str], limit: int) -> Call[ModelComparison]:
    request = model.CompareModelsRequest(name=model_name(name), texts=texts, page_size=limit)
    return Call(_MODEL + "CompareModels", request, model.CompareModelsResponse.FromString, _decode_comparison)


def activate_model(name: str | Model) -> Call[Model]:
    return Call(_MODEL + "ActivateModel", model.ActivateModelRequest(name=model_name(name)), model.Model.FromString, codec.decode_model)


def delete_model(name: str | Model) -> Call[None]:
    request = model.DeleteModelRequest(name=model_name(name))
    return Call(_MODEL + "DeleteModel", request, empty_pb2.Empty.FromString, lambda answer: None)


def _decode_comparison(message: model.CompareModelsResponse) -> ModelComparison:
    return ModelComparison(
        comparisons=tuple(Comparison(each.text, tuple(each.former), tuple(each.present), each.overlap) for each in message.comparisons),
        mean_overlap=message.mean_overlap,
    )
