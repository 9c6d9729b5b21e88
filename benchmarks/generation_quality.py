"""Quality of generation in both directions on ChEBI-20's validation texts, beside the shipped library, in one command.

    python -m benchmarks.generation_quality [--limit 100] [--candidates 20] [--model FOLDER] [--threads 1] [--library-limit N]

Descriptions: `encoder evaluate captioning` with and without the library's texts. Molecules: validity, exact match and similarity of the
first candidate by alignment and by probability, how unlike the candidates of a text are, and the way back: the first candidate of a text, and what
is then written of it, as queries for the text's own molecule among the library and the benchmark. No benchmark molecule is a neighbour.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem, DataStructs, rdBase

from atomas.readers import read_rows
from encoder.generator import Generator, Neighbour, Proposal
from encoder.manifest import DEFAULT_WEIGHTS
from encoder.molecules import MoleculeError, standardise
from encoder.prose import Manner, manner_of, normalise
from encoder.training.captions import Corpus
from encoder.training.dataset import inchikey_of, read_descriptions
from encoder.training.metrics import MORGAN, molecule_scores, rank_by_cosine, retrieval_scores
from encoder.training.writing import Benchmark, Pool, evaluate_captioning

LIBRARY, VALIDATION = Path("data/chebi.jsonl.gz"), Path("data/chebi20/validation.tsv")
CHUNK = 24
SEED = 1


@dataclass(frozen=True)
class Answer:
    """What was proposed for one text, after the chemistry door."""

    smiles: list[str]
    """Each molecule once, by InChIKey."""
    log_probabilities: list[float]
    alignments: list[float]
    written: int
    """Sequences of the decoder."""
    invalid: int
    """Those that are no molecules."""

    def first(self, scores: Sequence[float]) -> str:
        """The molecule of the highest score; nothing where there is none."""
        return self.smiles[int(np.argmax(scores))] if self.smiles else ""

    def diversity(self) -> float:
        """Mean Tanimoto distance of two of the molecules, by Morgan fingerprints of radius 2; nan for fewer than two."""
        prints = [MORGAN.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in self.smiles]
        pairs = list(combinations(prints, 2))
        return float(np.mean([1.0 - DataStructs.TanimotoSimilarity(*pair) for pair in pairs])) if pairs else float("nan")


def library(path: Path, benchmark: frozenset[str], limit: int | None) -> Corpus:
    """The library's molecules as RDKit spells them, with names and texts, without those of the benchmark."""
    corpus = Corpus([], [], [], [], [])
    with rdBase.BlockLogs():
        for row in read_rows(path):
            molecule = Chem.MolFromSmiles(row.smiles)
            if molecule is None or not molecule.GetNumAtoms():
                continue
            smiles, key = Chem.MolToSmiles(molecule), Chem.MolToInchiKey(molecule)
            if not key or key in benchmark:
                continue
            texts = [normalise(text) for text in row.descriptions]
            corpus.smiles.append(smiles)
            corpus.inchikeys.append(key)
            corpus.names.append(row.name)
            corpus.texts.append(next((text for text in texts if manner_of(text) is Manner.PROSE), texts[0] if texts else ""))
            if len(corpus.smiles) == limit:
                break
    return corpus


def answers(generator: Generator, texts: Sequence[str], neighbours: Sequence[list[Neighbour]], count: int) -> Iterator[Answer]:
    """Propose `count` molecules of every text."""
    for start in range(0, len(texts), CHUNK):
        chunk = list(zip(texts, neighbours, strict=True))[start : start + CHUNK]
        for (text, _), proposals in zip(chunk, generator.propose_all(chunk, count, SEED), strict=True):
            yield _answer(generator, text, proposals)


def _answer(generator: Generator, text: str, proposals: Sequence[Proposal]) -> Answer:
    kept: dict[str, tuple[str, float]] = {}
    invalid = 0
    for proposal in proposals:
        try:
            molecule = standardise(proposal.smiles)
        except MoleculeError:
            invalid += not proposal.edited
            continue
        smiles, before = kept.get(molecule.inchikey, (molecule.smiles, -np.inf))
        kept[molecule.inchikey] = smiles, max(before, proposal.log_probability)
    smiles_, log_probabilities = [smiles for smiles, _ in kept.values()], [probability for _, probability in kept.values()]
    cosines = generator.encoder.encode_molecules(smiles_) @ generator.encoder.encode_texts([text])[0] if smiles_ else np.zeros(0)
    return Answer(smiles_, log_probabilities, cosines.tolist(), sum(not proposal.edited for proposal in proposals), invalid)


def molecules(generator: Generator, benchmark: Benchmark, pool: Pool | None, count: int) -> tuple[dict[str, object], list[Answer]]:
    """Scores of the candidates."""
    texts = [row.text for row in benchmark.rows]
    neighbours: list[list[Neighbour]] = [[] for _ in texts]
    if pool is not None:
        neighbours = pool.near_texts(generator.encoder.encode_texts(texts), benchmark.keys)
    found = list(answers(generator, texts, neighbours, count))
    references = [row.smiles for row in benchmark.rows]
    returned = [smiles for answer in found for smiles in answer.smiles]
    by = {
        "by alignment": [answer.first(answer.alignments) for answer in found],
        "by probability": [answer.first(answer.log_probabilities) for answer in found],
    }
    scores: dict[str, object] = {}
    for name, firsts in by.items():
        scored = molecule_scores(references, firsts)
        scores[name] = {"exact": scored.exact, "morgan": scored.morgan, "maccs": scored.maccs}
    scores["exact among all"] = float(
        np.mean([key in map(inchikey_of, answer.smiles) for key, answer in zip(benchmark.keys, found, strict=True)])
    )
    scores["validity of returned"] = float(np.mean([Chem.MolFromSmiles(smiles) is not None for smiles in returned]))
    scores["raw validity"] = 1.0 - sum(answer.invalid for answer in found) / sum(answer.written for answer in found)
    scores["distinct of a text"] = float(np.mean([len(answer.smiles) for answer in found]))
    scores["texts without an answer"] = sum(not answer.smiles for answer in found)
    scores["diversity"] = float(np.nanmean([answer.diversity() for answer in found]))
    return scores, found


def way_back(generator: Generator, benchmark: Benchmark, pool: Pool, found: Sequence[Answer]) -> dict[str, object]:
    """Where the text's own molecule ranks for its text, for the first candidate, and for what is written of that candidate."""
    encoder = generator.encoder
    answered = [place for place, answer in enumerate(found) if answer.smiles]
    firsts = [found[place].first(found[place].alignments) for place in answered]
    vectors = encoder.encode_molecules(firsts)
    # Neither the candidate's own text nor that of the molecule in question may be read.
    own = [inchikey_of(smiles) for smiles in firsts]
    neighbours = pool.near_molecules(firsts, vectors, own)
    described = generator.describe_all(list(zip(firsts, neighbours, strict=True)))
    texts = [written[0].text if written else "nothing" for written in described]
    everything = np.concatenate([pool.vectors_NX, encoder.encode_molecules(benchmark.smiles)])
    targets = len(pool.vectors_NX) + np.array(answered)
    queries: dict[str, NDArray[np.float32]] = {
        "the text": encoder.encode_texts([benchmark.rows[place].text for place in answered]),
        "the first candidate": vectors,
        "what is written of it": encoder.encode_texts(texts),
    }
    ranked: dict[str, object] = {"pool": len(everything), "texts": len(answered)}
    for name, queries_QX in queries.items():
        ranks_Q = rank_by_cosine(queries_QX, everything, targets)
        ranked[name] = {**retrieval_scores(ranks_Q).to_json(), "median rank": float(np.median(ranks_Q))}
    return ranked


def main() -> None:
    """Prints one JSON document a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="first rows of the benchmark; all when left out")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--model", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--library-limit", type=int, help="first molecules of the library; all when left out")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = Generator.load(options.model)
    benchmark = Benchmark.read(VALIDATION, options.limit, generator.encoder)
    everybody = frozenset(inchikey_of(row.smiles) for row in read_descriptions(VALIDATION))
    spent = time.process_time()

    def say(part: str, scores: object) -> None:
        nonlocal spent
        took, spent = time.process_time() - spent, time.process_time()
        print(json.dumps({part: scores, "processor seconds": round(took, 1)}), flush=True)

    pool = Pool.of(generator.encoder, library(LIBRARY, everybody, options.library_limit), str(LIBRARY))
    say("setting", {"model": generator.encoder.version, "rows": len(benchmark.rows), "library": len(pool.corpus.smiles)})
    scores, found = molecules(generator, benchmark, pool, options.candidates)
    say("molecules beside the library", scores)
    say("way back", way_back(generator, benchmark, pool, found))
    say("molecules alone", molecules(generator, benchmark, None, options.candidates)[0])
    for name, given in (("descriptions beside the library", pool), ("descriptions alone", None)):
        say(name, evaluate_captioning(generator, benchmark, given, 4, None, lambda line: None))


if __name__ == "__main__":
    main()
