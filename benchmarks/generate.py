"""Candidates per second: rows of one text decoded together, against one candidate at a time, with the same weights in one run.

    python -m benchmarks.generate [--candidates 20] [--rounds 3] [--text "..."] [--threads 1]

One at a time is how a language model's usual `generate` is called for each candidate: keys and values are kept there too, and the source is read anew for each.
A third way keeps nothing: every token reads all those before it again.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from encoder.checkpoint import load_checkpoint
from encoder.decoder_checkpoint import load_decoder
from encoder.generation import Sampling, sample
from encoder.generator import LONGEST_WRITTEN
from encoder.manifest import DEFAULT_WEIGHTS
from encoder.model.atomas import TokenBatch
from encoder.model.decoder import END, Decoder, Task
from encoder.model.source import Source, without_neighbours

TEXT = "The molecule is a member of the class of phenols that is phenol substituted by a methoxy group at position 2. It has a role as a plant metabolite."
LONGEST = LONGEST_WRITTEN[Task.GENERATE]


def together(decoder: Decoder, source: Source, candidates: int, seed: int) -> int:
    """Returns the number of tokens written."""
    return _written(decoder, source, Sampling(candidates, [seed], LONGEST, temperature=0.8, top_p=0.95))


def one_at_a_time(decoder: Decoder, source: Source, candidates: int, seed: int) -> int:
    """As `together`, a call for each candidate."""
    return sum(_written(decoder, source, Sampling(1, [seed, number], LONGEST, temperature=0.8, top_p=0.95)) for number in range(candidates))


def keeping_nothing(decoder: Decoder, source: Source, candidates: int, seed: int) -> int:
    """As `one_at_a_time`, reading every token written again for the next one."""
    torch.manual_seed(seed)
    return sum(sum(1 for _ in _plain(decoder, source)) for _ in range(candidates))


def _written(decoder: Decoder, source: Source, sampling: Sampling) -> int:
    [found] = sample(decoder, Task.GENERATE, source, sampling)
    return sum(len(candidate.ids) + 1 for candidate in found.candidates)


@torch.inference_mode()
def _plain(decoder: Decoder, source: Source) -> Iterator[int]:
    written: list[int] = []
    while len(written) <= LONGEST and END not in written:
        state = decoder.start(Task.GENERATE, source)
        for last in (END, *written):
            log_probability_BNV = decoder.step(state, torch.tensor([[last]]))
        probability_V = (log_probability_BNV[0, 0] / 0.8).exp()
        if not written:
            probability_V[END] = 0.0
        written.append(int(torch.multinomial(probability_V, 1)))
        yield written[-1]


def main() -> None:
    """Prints the rates and how they compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--model", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = load_checkpoint(options.model)
    decoder = load_decoder(options.model).decoder
    with torch.inference_mode():
        batch = TokenBatch.from_features(checkpoint.text_features([options.text]))
        read = checkpoint.model("text", batch)
    tokens_BEC = read.tokens_BLD
    source = without_neighbours(tokens_BEC, torch.ones(tokens_BEC.shape[:2], dtype=torch.bool), read.vectors_BE)
    rates: dict[str, float] = {}
    ways: dict[str, Callable[[Decoder, Source, int, int], int]] = {
        "together": together,
        "one at a time": one_at_a_time,
        "keeping nothing": keeping_nothing,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tokens: dict[str, int] = dict.fromkeys(ways, 0)
    together(decoder, source, 2, 0)
    for seed in range(1, options.rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            tokens[name] += way(decoder, source, options.candidates, seed)
            seconds[name].append(time.perf_counter() - started)
    for name in ways:
        rates[name] = options.candidates / statistics.median(seconds[name])
        print(f"{name:16} {rates[name]:8.1f} candidates/s, {tokens[name] / sum(seconds[name]):8.0f} tokens/s")
    for name in ("one at a time", "keeping nothing"):
        print(f"together against {name}: {rates['together'] / rates[name]:.1f} x (aim 5 x)")


if __name__ == "__main__":
    main()
