"""Each leg of a text search alone, all of them fused, and fused without fragments, on descriptions of the ChEBI-20 validation split.

Without texts: every description ranks the molecules of validation and training, indexed with nothing said of them.
With texts: it ranks the shipped library, where the described compounds have names, roles and classes, but not this text.
Halves are every second description and the others; the last lines tell what other weights of the fragments would give.

python -m benchmarks.fusion [--data-dir FOLDER] [--candidates 0] [--queries 0] [--skip-library]
"""

import argparse
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.filled import LIBRARY, add_options, filled_service
from benchmarks.library import DATA
from encoder.batching import TokenBudgetBatcher
from encoder.inference import Encoder
from encoder.molecules import STANDARD_VERSION
from encoder.training.evaluate import RetrievalTask, read_retrieval_task
from server.adapters.edge_index import EdgeIndex
from server.adapters.local_encoder import LocalEncoder
from server.domain.compounds import POINT_NAMESPACE, point_id
from server.domain.search import VECTOR_LEGS, Kind, Leg
from server.ports import Encoder as ServingEncoder
from server.ports import Point, Question, ScoredPoint, VectorIndex
from server.usecases.fuse_legs import REALIGNED, USUAL_WEIGHTS, best_points, fuse, heaviest, realign
from server.usecases.search_compounds import SHALLOW_REACH
from server.usecases.words import query_weights

CHEBI20 = DATA / "chebi20"
BATCH = 64
# Of the fragments beside the usual weights of the others.
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
# A rank beyond what the legs look at; its reciprocal counts nothing.
NOT_FOUND = 10**9


def main() -> None:
    """Prints MRR and Hits of every leg and of the fusion; exits with 1 when the fusion is behind its best leg or itself without fragments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--candidates", type=int, default=0, help="training molecules in the pool; 0 takes all")
    parser.add_argument("--queries", type=int, default=0, help="descriptions; 0 takes all")
    parser.add_argument("--skip-library", action="store_true", help="only without texts")
    options = parser.parse_args()
    task = read_retrieval_task(CHEBI20 / "validation.tsv", [CHEBI20 / "train_molecules.tsv.gz"], os.cpu_count() or 1)
    queries = len(task.texts) if not options.queries else min(options.queries, len(task.texts))
    behind = without_texts(task, queries, options.candidates)
    if not options.skip_library:
        behind |= with_texts(task, queries, options)
    sys.exit(behind)


def without_texts(task: RetrievalTask, queries: int, candidates: int) -> bool:
    """The molecules alone. Returns whether the fusion is behind."""
    encoder = Encoder.load(threads=1)
    local = LocalEncoder(encoder, TokenBudgetBatcher(encoder), STANDARD_VERSION)
    described = set(task.targets.tolist())
    others = [place for place in range(len(task.pool)) if place not in described]
    pool = sorted(described) + (others[:candidates] if candidates else others)
    with tempfile.TemporaryDirectory() as folder:
        index = EdgeIndex.open(Path(folder), encoder.version, encoder.dimension, fragment_dimension=encoder.fragment_dimension)
        for start in range(0, len(pool), 512):
            places = pool[start : start + 512]
            molecules = local.encode_molecules_and_fragments([task.pool[place] for place in places])
            index.upsert(
                [
                    Point(pool_id(place), "pool", {Leg.MOLECULES: vector}, {}, "", fragments=parts.vectors if parts else None)
                    for place, (vector, parts) in zip(places, molecules, strict=True)
                ]
            )
        targets = [pool_id(int(target)) for target in task.targets[:queries]]
        print(f"without texts: {queries:,} descriptions rank {len(pool):,} molecules, model {encoder.version}")
        behind = report(task.texts[:queries], targets, local, index, None)
        index.close()
        local.close()
    return behind


def with_texts(task: RetrievalTask, queries: int, options: argparse.Namespace) -> bool:
    """The shipped library. Returns whether the fusion is behind."""
    with filled_service(options) as (ports, _):
        with ports.database.reading() as transaction:
            stored = {}
            after = ""
            while page := transaction.compounds.page(LIBRARY, after, 1_000):
                after = page[-1].inchikey
                stored.update({compound.structure.smiles: compound.inchikey for compound in page})
        wanted = [i for i in range(queries) if task.pool[task.targets[i]] in stored]
        targets = [point_id(LIBRARY, stored[task.pool[task.targets[i]]]) for i in wanted]
        print(f"with texts: {len(wanted):,} descriptions rank the {len(stored):,} compounds of the library")
        return report([task.texts[i] for i in wanted], targets, ports.encoder, ports.index, [LIBRARY])


def pool_id(place: int) -> uuid.UUID:
    """The point of a molecule of the pool."""
    return uuid.uuid5(POINT_NAMESPACE, str(place))


def report(
    texts: Sequence[str], targets: Sequence[uuid.UUID], encoder: ServingEncoder, index: VectorIndex, libraries: Sequence[str] | None
) -> bool:
    """Prints scores over all queries, and of every second one and the others. Returns whether the fusion is behind its best leg."""
    usual = USUAL_WEIGHTS[Kind.TEXT]
    finding: Mapping[Leg, float] = {leg: weight for leg, weight in usual.items() if leg is not Leg.FRAGMENTS}
    ranks: dict[str, list[int]] = {**{leg.value: [] for leg in usual}, "fused, no fragments": [], "fused": []}
    by_weight: dict[float, list[int]] = {weight: [] for weight in WEIGHTS}
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        encoded = encoder.encode_texts_and_phrases(some)
        for text, (vector, phrases), target in zip(some, encoded, targets[start : start + BATCH], strict=True):
            questions = [*(Question(leg, vector) for leg in VECTOR_LEGS), Question(Leg.LEXICAL, query_weights(text))]
            answers = index.search_legs(questions, SHALLOW_REACH, libraries)
            found: Mapping[Leg, Sequence[ScoredPoint]] = {question.leg: points for question, points in zip(questions, answers, strict=True)}
            for leg, points in found.items():
                ranks[leg.value].append(rank_of(target, [point.id for point in points]))
            fused = fuse(found, finding, SHALLOW_REACH)
            [scores] = index.align([(heaviest(phrases), list(fused)[:REALIGNED])])
            aligned = best_points(scores)
            ranks[Leg.FRAGMENTS.value].append(rank_of(target, [point.id for point in aligned]))
            ranks["fused, no fragments"].append(rank_of(target, list(fused)))
            total = sum(finding.values())
            ranks["fused"].append(rank_of(target, list(realign(fused, aligned, total, usual[Leg.FRAGMENTS]))))
            for weight, places in by_weight.items():
                places.append(rank_of(target, list(realign(fused, aligned, total, weight))))
    mean = {name: said(name, places) for name, places in ranks.items()}
    for weight, places in by_weight.items():
        said(f"fragments weigh {weight}", places)
    return mean.pop("fused") < max(mean.values())


def said(name: str, ranks: Sequence[int]) -> float:
    """Prints a line of scores; returns the MRR."""
    places = np.array(ranks)
    mean, *halves = (float((1 / chosen).mean()) for chosen in (places, places[::2], places[1::2]))
    hits = [np.mean(places <= depth) for depth in (1, 10)]
    print(f"  {name:20s} MRR {mean:.4f} (halves {halves[0]:.4f} {halves[1]:.4f})  Hits@1 {hits[0]:.2%}  Hits@10 {hits[1]:.2%}")
    return mean


def rank_of(target: uuid.UUID, order: Sequence[uuid.UUID]) -> int:
    """From 1."""
    return order.index(target) + 1 if target in order else NOT_FOUND


if __name__ == "__main__":
    main()
