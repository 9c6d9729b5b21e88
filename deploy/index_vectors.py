"""Vectors of Qdrant's protocol as the in-process engine takes them, and back; for the loopback server."""

from typing import Any

import qdrant_edge as edge
from qdrant_client import models


def vector_params(params: models.VectorParams) -> "edge.EdgeVectorParams":
    """How the engine is to keep a vector."""
    if params.multivector_config is None:
        return edge.EdgeVectorParams(size=params.size, distance=edge.Distance.Cosine)
    # The one kind of several vectors for a point that the index asks for.
    return edge.EdgeVectorParams(
        size=params.size,
        distance=edge.Distance.Dot,
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        datatype=edge.VectorStorageDatatype.Turbo8,
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10),
    )


def stored_vectors(vectors: Any) -> dict[str, Any]:
    """Vectors of a point, for the engine."""
    return {name: asked_vector(vector) for name, vector in vectors.items()}


def asked_vector(vector: Any) -> Any:
    """A vector of a point or a question, for the engine."""
    return edge.SparseVector(vector.indices, vector.values) if isinstance(vector, models.SparseVector) else vector


def said_vectors(vectors: Any) -> dict[str, Any] | None:
    """Vectors of a record as the client's own classes; None when none were asked for."""
    if not isinstance(vectors, dict):
        return None
    return {
        name: models.SparseVector(indices=vector.indices, values=vector.values) if isinstance(vector, edge.SparseVector) else vector
        for name, vector in vectors.items()
    }
