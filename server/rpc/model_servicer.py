"""EmbeddingService and ModelService: the vectors themselves, and what made them."""

from collections.abc import Sequence
from typing import Any

from atomas.v1 import embedding_service_pb2, model_service_pb2
from atomas.v1.embedding_service_pb2_grpc import EmbeddingServiceServicer
from atomas.v1.model_service_pb2_grpc import ModelServiceServicer
from server.domain.errors import AtomasError, Reason
from server.ports import Ports, Vector
from server.rpc import convert, names, page_tokens
from server.rpc.calls import Calls
from server.rpc.errors import status_of
from server.settings import Settings
from server.usecases.embed_items import embed_structures, embed_texts


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
    """The model that answers searches."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def GetModel(self, request: model_service_pb2.GetModelRequest, context: Any) -> model_service_pb2.Model:
        model = self._ports.encoder.model
        if names.model_id(request.name) not in (names.ANY, model.version):
            raise AtomasError(Reason.MODEL_NOT_FOUND, f"{request.name} is not here; {model.resource_name} answers searches.")
        return convert.model_message(model)

    async def ListModels(self, request: model_service_pb2.ListModelsRequest, context: Any) -> model_service_pb2.ListModelsResponse:
        page_tokens.decode(request.page_token, page_tokens.scope_of(request))
        return model_service_pb2.ListModelsResponse(models=[convert.model_message(self._ports.encoder.model)])
