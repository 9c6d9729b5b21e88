"""Which models' indexes receive what changes, as the database says at this moment."""

from server.domain.models import ModelState, StoredModel
from server.ports import Ports, VectorIndex


def live_models(ports: Ports) -> list[StoredModel]:
    """Every model whose index is kept up to date, the serving one first."""
    with ports.database.reading() as transaction:
        stored = transaction.models.all()
    return sorted((model for model in stored if model.state.live), key=lambda model: model.state is not ModelState.SERVING)


def live_indexes(ports: Ports) -> list[VectorIndex]:
    """Their indexes; what is deleted must leave all of them."""
    return [ports.models.index(model.version) for model in live_models(ports)]
