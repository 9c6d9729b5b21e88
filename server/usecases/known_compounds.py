"""Compounds of the library around something that is being generated: the nearest known ones, and what the decoder is shown."""

from collections.abc import Collection, Sequence

from server.domain.compounds import Compound, Structure, point_id
from server.domain.documents import compound_of
from server.domain.errors import AtomasError, Reason
from server.domain.generation import KnownCompound
from server.domain.search import Leg
from server.ports import Ports, ScoredPoint, Vector

# Neighbours by vector of which the nearest by fingerprint are taken, where no structure index is at hand.
_BY_VECTOR = 50


def nearest_compounds(
    structure: Structure, vector: Vector, count: int, libraries: Sequence[str] | None, ports: Ports
) -> list[tuple[Compound, float]]:
    """The most similar compounds with their Tanimoto similarity, best first.

    Without a structure index: the most similar by fingerprint among the nearest by vector.
    """
    try:
        points = list(ports.structures.nearest(structure.fingerprint, count, libraries))
    except AtomasError as error:
        if error.reason is not Reason.INDEX_UNAVAILABLE:
            raise
        points = _nearest_by_vector(structure.fingerprint, vector, count, libraries, ports)
    documents = ports.index.documents([point.id for point in points])
    # A compound that was deleted since it was found is left out.
    return [(compound_of(documents[point.id]), point.score) for point in points if point.id in documents]


def _nearest_by_vector(fingerprint: bytes, vector: Vector, count: int, libraries: Sequence[str] | None, ports: Ports) -> list[ScoredPoint]:
    [near] = ports.index.search(Leg.MOLECULES, [vector], _BY_VECTOR, libraries)
    found = [compound_of(document) for document in ports.index.documents([point.id for point in near]).values()]
    points = []
    with ports.database.reading() as transaction:
        for library in {compound.library for compound in found}:
            keys = [compound.inchikey for compound in found if compound.library == library]
            for key, stored in transaction.compounds.get_many(library, keys).items():
                points.append(ScoredPoint(point_id(library, key), tanimoto(fingerprint, stored.structure.fingerprint)))
    return sorted(points, key=lambda point: (-point.score, point.id))[:count]


def tanimoto(first: bytes, second: bytes) -> float:
    """Similarity of two fingerprints, 0 to 1; 0 when neither has a bit."""
    one, other = int.from_bytes(first), int.from_bytes(second)
    either = (one | other).bit_count()
    return (one & other).bit_count() / either if either else 0.0


def known_keys(inchikeys: Collection[str], libraries: Sequence[str] | None, ports: Ports) -> set[str]:
    """Those of the InChIKeys that a library holds."""
    with ports.database.reading() as transaction:
        if libraries is None:
            return {key for key in inchikeys if transaction.names.with_inchikey(key, None, 1)}
        return {key for library in libraries for key in transaction.compounds.get_many(library, list(inchikeys))}


def stored_compounds(known: Sequence[KnownCompound], ports: Ports) -> list[Compound]:
    """The compounds that are still there, in order."""
    documents = ports.index.documents([point_id(each.library, each.inchikey) for each in known])
    ids = [point_id(each.library, each.inchikey) for each in known]
    return [compound_of(documents[id]) for id in ids if id in documents]


def as_known(compound: Compound, similarity: float) -> KnownCompound:
    """What an answer says of a compound."""
    return KnownCompound(compound.library, compound.inchikey, compound.display_name, compound.structure.smiles, similarity)
