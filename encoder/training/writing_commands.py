"""The commands that train and judge a decoder: `train decoder`, `evaluate captioning`, `evaluate generation`."""

import argparse
import json
import os
from pathlib import Path

import torch

from encoder.checkpoint import DEFAULT_WEIGHTS
from encoder.generator import MOST, Generator
from encoder.training.compute import Compute
from encoder.training.decoding_recipes import DECODER_RECIPES, read_corpus, train_decoder
from encoder.training.library_texts import shipped_corpus
from encoder.training.recipes import TEXT_KINDS
from encoder.training.writing import Benchmark, Pool, evaluate_captioning, evaluate_generation

JUDGEMENTS = {
    "captioning": "texts written of molecules: BLEU and ROUGE",
    "generation": "molecules written of texts: validity, exact matches, similarity",
}
"""What can be judged of a decoder."""


def add_judgements(judgements: "argparse._SubParsersAction[argparse.ArgumentParser]", data: Path | None) -> None:
    """Add a parser for each judgement; `data` is the default folder of the training pairs, None for what ships with the project in their place."""
    for name, summary in JUDGEMENTS.items():
        parser = judgements.add_parser(name, help=summary)
        parser.add_argument("--pairs", type=Path, required=True, help="benchmark: .tsv with the columns cid, smiles, description")
        parser.add_argument("--limit", type=_positive, help="first rows of it alone")
        parser.add_argument(
            "--data",
            type=Path,
            default=data,
            help="folder of training pairs, among which neighbours are looked for (ATOMAS_TRAINING_DATA; default: what ships with the project)",
        )
        parser.add_argument("--kinds", nargs="+", default=list(TEXT_KINDS), help="files of that folder to read")
        parser.add_argument("--no-retrieval", action="store_true", help="show the decoder no neighbours")
        parser.add_argument("--model", type=Path, default=DEFAULT_WEIGHTS, help="checkpoint folder (default: the shipped weights)")
        parser.add_argument("--predictions", type=Path, help="file to write: inputs, references and outputs")
        parser.add_argument("--threads", type=_positive, default=os.cpu_count(), help="processor threads")
        parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
        if name == "captioning":
            parser.add_argument("--beams", type=_positive, default=4, help="beams of the search")
        else:
            parser.add_argument("--candidates", type=_candidates, default=16, help="molecules written for every text")
            parser.add_argument("--seed", type=int, default=0, help="seed of the draws")


def judge(options: argparse.Namespace) -> None:
    """Run a judgement and print its scores."""
    torch.set_num_threads(options.threads)
    generator = Generator.load(options.model)
    benchmark = Benchmark.read(options.pairs, options.limit, generator.encoder)
    pool = None
    if not options.no_retrieval:
        corpus = shipped_corpus(set(benchmark.keys)) if options.data is None else read_corpus(options.data, tuple(options.kinds))
        pool = Pool.of(generator.encoder, corpus, str(options.data or "shipped with the project"))

    def report(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    if options.judgement == "captioning":
        scores = evaluate_captioning(generator, benchmark, pool, options.beams, options.predictions, report)
    else:
        scores = evaluate_generation(generator, benchmark, pool, options.candidates, options.seed, options.predictions, report)
    scores["model"] = generator.encoder.version
    if options.json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            print(f"{name}: {value}")


def train(options: argparse.Namespace, out: Path, compute: Compute) -> None:
    """Run a recipe of the decoder."""
    torch.set_num_threads(options.threads)
    train_decoder(
        DECODER_RECIPES[options.recipe](),
        options.model or DEFAULT_WEIGHTS,
        options.data,
        out,
        lambda line: print(line, flush=True),
        compute,
    )
    print(json.dumps({"out": str(out)}))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _candidates(text: str) -> int:
    number = _positive(text)
    if number > MOST:
        raise argparse.ArgumentTypeError(f"must be at most {MOST}, not {number}")
    return number
