"""Molecules per second of the encoder against the plain way, with the same weights in one run, and what other ways would give.

    python -m benchmarks.encode [--molecules 3000] [--model FOLDER] [--full-pool]

The plain way is that of most model code: batches of 32 in the order of arrival, every token embedded, padded to the longest item, 32-bit
floats. Reading the structure and counting its features comes before any network and is the same for both, so it is timed apart; both sums
are printed. Seconds are processor time of one thread. MRR is text to molecule on ChEBI-20 validation, among the pairs alone or, with
--full-pool, among all molecules of the benchmark; no vector may depend on its batch mates. ONNX Runtime is tried when it can be imported
(`pip install onnx onnxscript onnxruntime`).
"""

import argparse
import copy
import importlib
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from torch import Tensor, nn

from benchmarks.library import DATA
from encoder.checkpoint import DEFAULT_WEIGHTS, Checkpoint, load_checkpoint
from encoder.inference import group_by_length
from encoder.maccs import maccs_keys
from encoder.manifest import molecule_tokens, text_tokens
from encoder.model.atomas import AtomasEncoder, TokenBatch
from encoder.model.config import Modality
from encoder.training.dataset import read_descriptions, read_molecules
from encoder.training.metrics import rank_by_cosine, retrieval_scores

PLAIN_BATCH = 32
AIM = 3.0
TOLERANCE = 0.002
BATCH_TOLERANCE = 1e-5

Vectors = NDArray[np.float32]
Encode = Callable[[Modality, TokenBatch], Tensor]
Batches = list[tuple[list[int], TokenBatch]]


def main() -> None:
    """Prints featurisation, the two ways, and the alternatives with their MRR."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=3_000)
    parser.add_argument("--model", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--full-pool", action="store_true", help="judge MRR among all molecules of the benchmark")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rdBase.DisableLog("rdApp.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    checkpoint = load_checkpoint(options.model)
    rows = read_descriptions(DATA / "chebi20" / "validation.tsv")
    pool = [canonical(row.smiles) for row in rows]
    mix = random.Random(0).sample(pool, min(options.molecules, len(pool)))
    lengths = np.array([molecule_tokens(smiles) for smiles in mix])
    print(f"{len(mix)} molecules, tokens: median {np.median(lengths):.0f}, 95 % {np.quantile(lengths, 0.95):.0f}, longest {lengths.max()}")

    featurising = timed_features(checkpoint, mix)
    plain = [(rows, batch_of(checkpoint, "molecule", mix, rows)) for rows in in_order(len(mix))]
    by_length = batches_of(checkpoint, "molecule", mix)
    plain_seconds, plain_vectors = timed(lambda modality, batch: checkpoint.model(modality, batch).vectors_BE, "molecule", plain, len(mix))
    own_seconds, own_vectors = timed(checkpoint.model.vectors, "molecule", by_length, len(mix))
    assert np.abs(plain_vectors - own_vectors).max() < 1e-4, "the two ways must give the same vectors"
    report("network, plain way", plain_seconds, len(mix))
    report("network, as shipped", own_seconds, len(mix))
    print(f"network alone: {plain_seconds / own_seconds:.1f} times the plain way (aim {AIM})")
    whole = (featurising + plain_seconds) / (featurising + own_seconds)
    print(f"with featurisation: {len(mix) / (featurising + own_seconds):.0f} molecules/s, {whole:.2f} times the plain way")

    if options.full_pool:
        pool += sorted({canonical(smiles) for _, smiles in read_molecules(DATA / "chebi20" / "train_molecules.tsv.gz")} - set(pool))
    judged = batches_of(checkpoint, "molecule", pool), batches_of(checkpoint, "text", [row.text for row in rows])
    exact = 0.0
    for name, make in ALTERNATIVES.items():
        try:
            encode = make(checkpoint.model)
            # Once before the clock starts: compilation is paid once.
            timed(encode, "molecule", by_length, len(mix))
            seconds, _ = timed(encode, "molecule", by_length, len(mix))
            molecules, texts = timed(encode, "molecule", judged[0], len(pool))[1], timed(encode, "text", judged[1], len(rows))[1]
        # Whatever an optional tool raises on this machine is its result here.
        except Exception as error:
            print(f"{name:28s} not usable here: {type(error).__name__}: {str(error).strip().splitlines()[0][:100] if str(error) else ''}")
            continue
        moved = moved_by_batch_mates(encode, checkpoint, mix[:64])
        mrr = retrieval_scores(rank_by_cosine(texts, molecules, np.arange(len(rows)))).mrr
        exact = exact or mrr
        faults = [f"MRR off by more than {TOLERANCE}"] if abs(mrr - exact) > TOLERANCE else []
        faults += [f"vectors depend on the batch, by {moved:.0e}"] if moved > BATCH_TOLERANCE else []
        print(
            f"{name:28s} {seconds / len(mix) * 1e6:7.1f} us/molecule  MRR {mrr:.4f} ({mrr - exact:+.4f}, pool {len(pool)})"
            f"{'  refused: ' if faults else ''}{'; '.join(faults)}"
        )


def moved_by_batch_mates(encode: Encode, checkpoint: Checkpoint, smiles: list[str]) -> float:
    """Largest difference between a number of a vector computed alone and in a batch."""
    together = timed(
        encode, "molecule", [(list(range(len(smiles))), batch_of(checkpoint, "molecule", smiles, list(range(len(smiles)))))], len(smiles)
    )[1]
    alone = timed(
        encode, "molecule", [([row], batch_of(checkpoint, "molecule", smiles, [row])) for row in range(len(smiles))], len(smiles)
    )[1]
    return float(np.abs(together - alone).max())


def timed_features(checkpoint: Checkpoint, smiles: list[str]) -> float:
    """Print what reading structures and counting features costs; returns the seconds of both."""
    checkpoint.molecule_features(smiles)  # what is remembered between molecules is remembered in a service too
    seconds, molecules = clocked(lambda: [Chem.MolFromSmiles(text) for text in smiles])
    report("  of it: RDKit reads SMILES", seconds, len(smiles))
    parts = [(list(molecule.GetAtoms()), list(molecule.GetBonds()), molecule.GetRingInfo().BondRings()) for molecule in molecules]
    seconds, _ = clocked(lambda: [maccs_keys(molecule, text, *part) for molecule, text, part in zip(molecules, smiles, parts, strict=True)])
    report("  of it: MACCS keys", seconds, len(smiles))
    seconds, _ = clocked(lambda: [checkpoint.molecule_features(smiles[start : start + 256]) for start in range(0, len(smiles), 256)])
    report("featurisation", seconds, len(smiles))
    return seconds


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of some work, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def timed(encode: Encode, modality: Modality, batches: Batches, count: int) -> tuple[float, Vectors]:
    """Processor seconds for all batches, and the vectors in the items' order."""
    parts: list[Tensor] = []
    with torch.inference_mode():
        start = time.process_time()
        for _, batch in batches:
            parts.append(encode(modality, batch))
        seconds = time.process_time() - start
    vectors: list[Any] = [None] * count
    for (rows, _), part in zip(batches, parts, strict=True):
        for row, vector in zip(rows, part.float().numpy(), strict=True):
            vectors[row] = vector
    return seconds, np.stack(vectors)


def report(stage: str, seconds: float, count: int) -> None:
    """One line of the table."""
    print(f"{stage:28s} {seconds / count * 1e6:7.1f} us/molecule {count / seconds:9.0f} molecules/s")


def canonical(smiles: str) -> str:
    """Canonical SMILES by RDKit alone: the door's repairs change no length worth a second."""
    return str(Chem.MolToSmiles(Chem.MolFromSmiles(smiles)))


def in_order(count: int) -> list[list[int]]:
    """Rows in batches of the plain way."""
    return [list(range(start, min(start + PLAIN_BATCH, count))) for start in range(0, count, PLAIN_BATCH)]


def batches_of(checkpoint: Checkpoint, modality: Modality, items: Sequence[str]) -> Batches:
    """Batches as the service makes them: by length, within a budget of tokens."""
    count = text_tokens if modality == "text" else molecule_tokens
    return [(rows, batch_of(checkpoint, modality, items, rows)) for rows in group_by_length([count(item) for item in items])]


def batch_of(checkpoint: Checkpoint, modality: Modality, items: Sequence[str], rows: list[int]) -> TokenBatch:
    """Features of some items as tensors."""
    features = checkpoint.text_features if modality == "text" else checkpoint.molecule_features
    return TokenBatch.from_features(features([items[row] for row in rows]))


def bfloat16(model: AtomasEncoder) -> Encode:
    """All weights, the tables included, in 16 bits."""
    half = copy.deepcopy(model).bfloat16()

    def encode(modality: Modality, batch: TokenBatch) -> Tensor:
        return half.vectors(
            modality, TokenBatch(batch.ids_F, batch.weights_F.bfloat16(), batch.offsets_T, batch.mass_T.bfloat16(), batch.mask_BL)
        )

    return encode


def int8(model: AtomasEncoder) -> Encode:
    """Linear layers quantised dynamically; tables stay as they are."""
    quantise: Callable[..., AtomasEncoder] = torch.ao.quantization.quantize_dynamic
    quantised = quantise(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    return quantised.vectors


def compiled(model: AtomasEncoder) -> Encode:
    """The projection heads through torch.compile, for any batch size."""
    heads = {modality: torch.compile(model.tower(modality).project, dynamic=True) for modality in ("text", "molecule")}
    return with_heads(model, heads)


def onnx(model: AtomasEncoder) -> Encode:
    """The projection heads in ONNX Runtime: its operators know no weighted bag of rows."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {}
    for modality in ("text", "molecule"):
        head = _Head(model, modality)
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(head, (torch.zeros(2, model.config.width),), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
        assert program is not None
        sessions[modality] = runtime.InferenceSession(program.model_proto.SerializeToString(), options)

    def head_of(session: Any) -> Callable[[Tensor], Tensor]:
        name = session.get_inputs()[0].name
        return lambda pooled: torch.from_numpy(session.run(None, {name: pooled.numpy()})[0])

    return with_heads(model, {modality: head_of(session) for modality, session in sessions.items()})


class _Head(nn.Module):
    def __init__(self, model: AtomasEncoder, modality: Modality) -> None:
        super().__init__()
        self.tower = copy.deepcopy(model.tower(modality))

    def forward(self, pooled_BD: Tensor) -> Tensor:
        return self.tower.project(pooled_BD)


def with_heads(model: AtomasEncoder, heads: Mapping[str, Callable[[Tensor], Tensor]]) -> Encode:
    """The bag as shipped, the head by other means."""
    if model.config.layers:
        raise ValueError("this way was tried on encoders without layers alone")
    return lambda modality, batch: heads[modality](model.tower(modality).bag(batch))


ALTERNATIVES: dict[str, Callable[[AtomasEncoder], Encode]] = {
    "32-bit floats, as shipped": lambda model: model.vectors,
    "bfloat16": bfloat16,
    "int8 dynamic quantisation": int8,
    "torch.compile of the heads": compiled,
    "ONNX Runtime for the heads": onnx,
}


if __name__ == "__main__":
    main()
