"""Models and the filling of their indexes as messages of the contract."""

from datetime import UTC, datetime

from google.longrunning import operations_pb2

from atomas.v1 import model_service_pb2 as pb
from server.domain.models import StoredModel
from server.rpc.convert import timestamp
from server.rpc.errors import cancelled
from server.usecases.reindex_compounds import Fill


def model_message(stored: StoredModel, compound_count: int) -> pb.Model:
    model = stored.model
    return pb.Model(
        name=model.resource_name,
        state=pb.Model.State.Value(stored.state.value) if stored.state.live else pb.Model.STATE_UNSPECIFIED,
        dimension=model.dimension,
        molecule_standard=model.molecule_standard,
        max_tokens=model.max_tokens,
        compound_count=compound_count,
    )


def fill_message(fill: Fill) -> operations_pb2.Operation:
    """As google.longrunning.Operation; a cancelled one is done with an error of code CANCELLED."""
    stored = fill.model
    metadata = pb.ReindexMetadata(
        model=stored.model.resource_name,
        indexed_count=fill.indexed_count,
        compound_count=fill.compound_count,
        create_time=timestamp(stored.create_time),
        end_time=timestamp(stored.end_time),
    )
    if (left := fill.time_left(datetime.now(UTC))) is not None:
        metadata.time_left.FromTimedelta(left)
    message = operations_pb2.Operation(name=f"operations/{fill.id}", done=fill.done)
    message.metadata.Pack(metadata)
    if fill.cancelled:
        message.error.CopyFrom(cancelled("The fill was cancelled, and what it made is removed."))
    elif fill.done:
        message.response.Pack(model_message(stored, fill.indexed_count))
    return message
