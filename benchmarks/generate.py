"""Candidates per second: rows of one text decoded together, against transformers' `generate` with the same weights, called for each, in one run.

    python -m benchmarks.generate [--candidates 20] [--rounds 5] [--text "..."] [--threads 1]

Every way draws as the service does (temperature 0.8, the likeliest tokens of 95 %, what no SMILES could hold forbidden), beside the same molecules to
copy from, keeps keys and values, and is given the source read already. That transformers computes the same is checked first.
"""

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch

from benchmarks.transformers_decoder import TransformersDecoder, write
from encoder.checkpoint import load_checkpoint
from encoder.decoder_checkpoint import load_decoder
from encoder.generation import Sampling, sample
from encoder.generator import LONGEST_WRITTEN, Generator, Neighbour
from encoder.manifest import DEFAULT_WEIGHTS
from encoder.model.decoder import END, Decoder, Task
from encoder.model.source import Source
from encoder.syntax import Forbid, SmilesSyntax

TEXT = "The molecule is a member of the class of phenols that is phenol substituted by a methoxy group at position 2. It has a role as a plant metabolite."
LIBRARY = Path("data/chebi_sample.jsonl.gz")
LONGEST = LONGEST_WRITTEN[Task.GENERATE]
TEMPERATURE, TOP_P = 0.8, 0.95


class Ways:
    """The ways to write candidates of one source; each returns the sequences it wrote, their ends included."""

    def __init__(self, decoder: Decoder, source: Source, forbid: Forbid) -> None:
        self.decoder, self.source, self.forbid = decoder, source, forbid
        self.model = TransformersDecoder(decoder, Task.GENERATE)
        self.memory = self.model.read(source)

    def together(self, candidates: int, seed: int) -> list[int]:
        return self._own(candidates, [seed])

    def one_at_a_time(self, candidates: int, seed: int) -> list[int]:
        return [length for number in range(candidates) for length in self._own(1, [seed, number])]

    def transformers_one_at_a_time(self, candidates: int, seed: int) -> list[int]:
        torch.manual_seed(seed)
        return [length for _ in range(candidates) for length in self._theirs(1)]

    def transformers_together(self, candidates: int, seed: int) -> list[int]:
        torch.manual_seed(seed)
        return self._theirs(candidates)

    def _own(self, rows: int, seed: list[int]) -> list[int]:
        sampling = Sampling(rows, seed, LONGEST, TEMPERATURE, TOP_P)
        # Every draw counts as a candidate, also a repetition, as it does on the other side.
        [found] = sample(self.decoder, Task.GENERATE, self.source, sampling, identify=lambda ids: object(), forbid=self.forbid)
        return [len(candidate.ids) + 1 for candidate in found.candidates] + [LONGEST + 1] * found.unfinished

    def _theirs(self, rows: int) -> list[int]:
        sequences = write(
            self.model, self.memory, LONGEST, self.forbid, rows, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0
        )
        return [sequence.index(END) + 1 if END in sequence else len(sequence) for sequence in sequences]

    def difference(self) -> float:
        """Largest difference of log-probabilities along the likeliest sequence; raises AssertionError when the sequences differ."""
        own, steps = greedy(self.decoder, self.source, self.forbid)
        [theirs] = write(self.model, self.memory, LONGEST, self.forbid, do_sample=False)
        assert theirs == own, f"transformers writes {theirs}, the decoder {own}"
        given = torch.tensor([[self.model.begin, *own[:-1]]])
        with torch.inference_mode():
            logits_LV = self.model(given, memory=self.memory, use_cache=False).logits[0, :, :-1]
        return float((logits_LV - torch.stack(steps)).abs().max())


@torch.inference_mode()
def greedy(decoder: Decoder, source: Source, forbid: Forbid | None) -> tuple[list[int], list[torch.Tensor]]:
    """The likeliest output at every step, END first excepted, and the log-probabilities (V) it was chosen by."""
    state = decoder.start(Task.GENERATE, source)
    written: list[int] = []
    steps: list[torch.Tensor] = []
    last_BN = torch.tensor([[END]])
    while END not in written and len(written) <= LONGEST:
        steps.append(decoder.step(state, last_BN)[0, 0])
        allowed_V = steps[-1].clone()
        if forbid is not None:
            allowed_V[forbid(torch.tensor([[written]], dtype=torch.long))[0, 0]] = -torch.inf
        if not written:
            allowed_V[END] = -torch.inf
        written.append(int(allowed_V.argmax()))
        last_BN = torch.tensor([[written[-1]]])
    return written, steps


def molecules(count: int) -> Iterator[Neighbour]:
    """The first molecules of the shipped sample: of these the decoder reads those nearest to the text."""
    with gzip.open(LIBRARY, "rt", encoding="utf-8") as source:
        for line in islice(source, count):
            yield Neighbour(json.loads(line)["smiles"])


def main() -> None:
    """Prints the rates and how they compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--model", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    writing = load_decoder(options.model)
    source = Generator(load_checkpoint(options.model), writing).source_of_text(options.text, list(molecules(500)))
    all_ways = Ways(writing.decoder, source, SmilesSyntax(writing.vocabularies.smiles))
    print(f"the same likeliest sequence both ways, log-probabilities at most {all_ways.difference():.1e} apart")
    ways: dict[str, Callable[[int, int], list[int]]] = {
        "together": all_ways.together,
        "one at a time": all_ways.one_at_a_time,
        "transformers, one at a time": all_ways.transformers_one_at_a_time,
        "transformers, together": all_ways.transformers_together,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    tokens: dict[str, int] = dict.fromkeys(ways, 0)
    for seed in range(options.rounds + 1):
        for name, way in ways.items():
            started, worked = time.perf_counter(), time.process_time()
            lengths = way(options.candidates, seed)
            # The first round warms up.
            if seed:
                seconds[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - worked)
                tokens[name] += sum(lengths)
    for name in ways:
        rate, own_rate = (options.candidates / statistics.median(spent[name]) for spent in (seconds, busy))
        length = tokens[name] / options.rounds / options.candidates
        print(f"{name:28} {rate:8.1f} candidates/s, {own_rate:8.1f} in a second of processor time, {length:5.1f} tokens each")
    for name in list(ways)[1:]:
        wall, own = (statistics.median(spent[name]) / statistics.median(spent["together"]) for spent in (seconds, busy))
        print(f"together against {name}: {wall:.1f} x, in processor time {own:.1f} x")


if __name__ == "__main__":
    main()
