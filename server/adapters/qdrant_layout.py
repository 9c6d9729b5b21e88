"""How collections of a Qdrant server are laid out, from the settings."""

from server.adapters.qdrant_index import CollectionSettings
from server.settings import Settings


def collection_settings(settings: Settings) -> CollectionSettings:
    """The layout for collections that are created from now on; searches follow it at once."""
    return CollectionSettings(
        shards=settings.qdrant_shards,
        replicas=settings.qdrant_replicas,
        write_consistency=settings.qdrant_write_consistency,
        on_disk=settings.qdrant_on_disk,
        quantised=settings.qdrant_quantised,
        oversampling=settings.qdrant_oversampling,
        hnsw_ef=settings.qdrant_hnsw_ef,
    )
