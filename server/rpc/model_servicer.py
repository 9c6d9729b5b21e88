"""EmbeddingService and ModelService: the vectors themselves, and what made them."""

from collections.abc import Sequence
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty

from atomas.v1 import embedding_service_pb2
from atomas.v1 import model_service_pb2 as pb
from atomas.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer
from atomas.v1.model_service_pb2_grpc import ModelServiceServicer
from server.domain.errors import AtomasError, Reason
from server.ports import Ports, Vector
from server.rpc import names, page_tokens
from server.rpc.calls import Calls
from server.rpc.errors import status_of
from server.rpc.model_messages import fill_message, model_message
from server.settings import Settings
from server.usecases import manage_models, reindex_compounds
from server.usecases.embed_items import embed_structures, embed_texts

MOST_COMPARED = 100


class EmbeddingServicer(EmbeddingServiceServicer):
    """Each item has its vector or its own error."""

    def __init__(self, ports: Ports, calls: Calls, settings: Settings) -> None:
        self._ports = ports
        self._calls = calls
        self._settings = settings

    async def EmbedTexts(self, request: embedding_service_pb2.EmbedTextsRequest, context: Any) -> embedding_service_pb2.EmbedTextsResponse:
        results = await self._calls.run(
            embed_texts,
            list(request.texts),
            self._ports,
            max_text_characters=self._settings.max_text_characters,
            timeout_seconds=context.time_remaining(),
        )
        return embedding_service_pb2.EmbedTextsResponse(embeddings=_messages(results), model=self._ports.encoder.model.resource_name)

    async def EmbedStructures(
        self, request: embedding_service_pb2.EmbedStructuresRequest, context: Any
    ) -> embedding_service_pb2.EmbedStructuresResponse:
        results = await self._calls.run(embed_structures, list(request.structures), self._ports, timeout_seconds=context.time_remaining())
        return embedding_service_pb2.EmbedStructuresResponse(embeddings=_messages(results), model=self._ports.encoder.model.resource_name)


def _messages(results: Sequence[Vector | AtomasError]) -> list[embedding_service_pb2.Embedding]:
    return [
        embedding_service_pb2.Embedding(error=status_of(result))
        if isinstance(result, AtomasError)
        else embedding_service_pb2.Embedding(vector=result.tolist())
        for result in results
    ]


class ModelServicer(ModelServiceServicer):
    """Converts, calls, converts back."""

    def __init__(self, ports: Ports, calls: Calls) -> None:
        self._ports = ports
        self._calls = calls

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.Model:
        version = names.model_id(request.name)
        model, count = await self._calls.run(manage_models.get_model, "" if version == names.ANY else version, self._ports)
        return model_message(model, count)

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """There are never more than fit on one page."""
        page_tokens.decode(request.page_token, page_tokens.scope_of(request))
        found = await self._calls.run(manage_models.list_models, self._ports)
        return pb.ListModelsResponse(models=[model_message(model, count) for model, count in found])

    async def ReindexCompounds(self, request: pb.ReindexCompoundsRequest, context: Any) -> operations_pb2.Operation:
        return fill_message(await self._calls.run(reindex_compounds.start_reindex, request.path, self._ports))

    async def CompareModels(self, request: pb.CompareModelsRequest, context: Any) -> pb.CompareModelsResponse:
        if not 0 <= request.page_size <= MOST_COMPARED:
            raise AtomasError(
                Reason.INVALID_ARGUMENT, f"page_size is {request.page_size}; compare 1 to {MOST_COMPARED} hits of each query."
            )
        size = request.page_size or 10
        found = await self._calls.run(manage_models.compare_models, names.model_id(request.name), list(request.texts), size, self._ports)
        return pb.CompareModelsResponse(
            comparisons=[
                pb.CompareModelsResponse.Comparison(
                    text=each.text,
                    former=[names.compound_name(*place) for place in each.former],
                    present=[names.compound_name(*place) for place in each.present],
                    overlap=each.overlap,
                )
                for each in found
            ],
            mean_overlap=sum(each.overlap for each in found) / len(found),
        )

    async def ActivateModel(self, request: pb.ActivateModelRequest, context: Any) -> pb.Model:
        version = names.model_id(request.name)
        await self._calls.run(manage_models.activate_model, version, self._ports)
        return model_message(*await self._calls.run(manage_models.get_model, version, self._ports))

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Any) -> Empty:
        await self._calls.run(manage_models.delete_model, names.model_id(request.name), self._ports)
        return Empty()
