"""Command line of the encoder: `python -m encoder train RECIPE`, `python -m encoder evaluate retrieval|captioning|generation`."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rdkit import RDLogger

from encoder.checkpoint import CheckpointError
from encoder.inference import Encoder
from encoder.training import writing_commands
from encoder.training.compute import DEVICES, Compute
from encoder.training.dataset import DatasetError
from encoder.training.decoding_recipes import DECODER_RECIPES
from encoder.training.evaluate import evaluate_retrieval, read_retrieval_task
from encoder.training.hierarchy import HierarchySchedule, train_hierarchy
from encoder.training.recipes import RECIPES, read_training_set, train

HIERARCHY = "hierarchy"
"""What to train after a recipe of the encoder: the hierarchy on its tokens."""

_ROOT = Path(__file__).parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 fine, 1 with one clear line on stderr, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    RDLogger.DisableLog("rdApp.*")  # every rejected molecule is reported by its own error
    try:
        if options.command == "train":
            _train(options)
        else:
            _evaluate(options)
    except (CheckpointError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m encoder", description="Train and judge the encoder of molecules and texts.")
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train a recipe; an interrupted run continues")
    training.add_argument("recipe", choices=sorted([*RECIPES, HIERARCHY, *DECODER_RECIPES]), help="what to train")
    own_data = os.environ.get("ATOMAS_TRAINING_DATA")
    data = Path(own_data or _ROOT / "data" / "sample_pairs")
    training.add_argument(
        "--data",
        type=Path,
        default=data,
        help="folder of the pairs (ATOMAS_TRAINING_DATA; default: the shipped sample)",
    )
    training.add_argument("--out", type=Path, help="folder of the run (default: runs/RECIPE)")
    training.add_argument(
        "--start", type=Path, help="folder of the run that the recipe starts from (default: that recipe's folder in runs)"
    )
    training.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="processor threads; results are reproducible with the same number"
    )
    training.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    training.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, help="compute layers in bfloat16 (default: on a GPU, and not on a processor)"
    )
    training.add_argument("--model", type=Path, help="checkpoint that a decoder is trained on top of (default: the shipped weights)")
    evaluation = commands.add_parser("evaluate", help="judge a checkpoint")
    judgements = evaluation.add_subparsers(dest="judgement", required=True)
    retrieval = judgements.add_parser("retrieval", help="text to molecule search in the Text2Mol protocol")
    retrieval.add_argument("--pairs", type=Path, required=True, help="queries: .tsv with the columns cid, smiles, description")
    retrieval.add_argument(
        "--candidates", type=Path, nargs="*", default=[], help="more molecules of the pool: .tsv or .tsv.gz with a smiles column"
    )
    retrieval.add_argument("--model", type=Path, help="checkpoint folder (default: the shipped weights)")
    retrieval.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads and processes")
    retrieval.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    writing_commands.add_judgements(judgements, Path(own_data) if own_data else None)
    return parser


def _train(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    compute = Compute.of(options.device, options.bf16)
    out = options.out or _ROOT / "runs" / options.recipe
    if options.recipe in DECODER_RECIPES:
        writing_commands.train(options, out, compute)
        return
    if options.recipe == HIERARCHY:
        start = (options.start or _ROOT / "runs" / "bag") / "checkpoint"
        schedule = HierarchySchedule()
        data = read_training_set(replace(RECIPES["bag"](), kinds=schedule.kinds), options.data)
        train_hierarchy(start, data, schedule, out, lambda line: print(line, flush=True), compute)
        print(json.dumps({"out": str(out)}))
        return
    recipe = RECIPES[options.recipe]()
    start = options.start or (_ROOT / "runs" / recipe.start if recipe.start else None)
    train(recipe, read_training_set(recipe, options.data), out, lambda line: print(line, flush=True), start, compute)
    print(json.dumps({"out": str(out)}))


def _evaluate(options: argparse.Namespace) -> None:
    if options.judgement in writing_commands.JUDGEMENTS:
        writing_commands.judge(options)
        return
    encoder = Encoder.load(options.model, options.threads)
    task = read_retrieval_task(options.pairs, options.candidates, options.threads)
    results = evaluate_retrieval(encoder, task, report=(lambda line: None) if options.json else print)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main())
