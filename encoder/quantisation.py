"""Stores embedding tables in 8 or 4 bits a number: what makes a table of 80,000 rows small enough for a repository."""

# Shape legend:  N rows, D width (even), C codes
import torch
from torch import Tensor

_CODES = 16


def quantise(table_ND: Tensor, bits: int) -> dict[str, Tensor]:
    """Return the tensors to store: whole numbers and a 16-bit scale per row, and with 4 bits the 16 values that the numbers stand for."""
    if bits == 8:
        # The scale is rounded to what is stored before it divides, so that reading gives back the nearest of 255 steps.
        scales_N1 = (table_ND.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-6).to(torch.float16)
        return {"integers": (table_ND / scales_N1.float()).round().clamp(-127, 127).to(torch.int8), "scales": scales_N1}
    if bits == 4:
        scales_N1 = table_ND.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-6).to(torch.float16)
        relative_ND = table_ND / scales_N1.float()
        values_C = _best_values(relative_ND.flatten())
        codes_ND = torch.bucketize(relative_ND, (values_C[1:] + values_C[:-1]) / 2).to(torch.uint8)
        return {"nibbles": codes_ND[:, 0::2] * _CODES + codes_ND[:, 1::2], "scales": scales_N1, "values": values_C}
    raise ValueError(f"tables are stored in 4 or 8 bits, not {bits}")


def dequantise(stored: dict[str, Tensor]) -> Tensor:
    """Return the table (N, D) in 32-bit floats; KeyError when a tensor is missing."""
    if "integers" in stored:
        return stored["integers"].float() * stored["scales"].float()
    # Two numbers a byte: looked up together, in a fifth of the time that taking the bytes apart needs.
    values_C = stored["values"]
    pairs = torch.stack([values_C.repeat_interleave(_CODES), values_C.repeat(_CODES)], dim=-1)
    return pairs[stored["nibbles"].int()].flatten(1).mul_(stored["scales"].float())


def dequantised(tensors: dict[str, Tensor], ending: str) -> dict[str, Tensor]:
    """Stored tensors in 32-bit floats; those whose names go on after `ending` are parts of the table that is named up to there."""
    plain: dict[str, Tensor] = {}
    tables: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        table, _, part = name.rpartition(".")
        if table.endswith(ending):
            tables.setdefault(table, {})[part] = tensor
        else:
            plain[name] = tensor.float()
    return plain | {name: dequantise(parts) for name, parts in tables.items()}


def _best_values(samples_S: Tensor) -> Tensor:
    """The 16 values of least mean squared error (Lloyd's algorithm from quantiles); deterministic."""
    samples_S = samples_S[:: max(1, len(samples_S) // 1_000_000)].sort().values
    values_C = samples_S[torch.linspace(0, len(samples_S) - 1, 2 * _CODES + 1)[1::2].long()]
    sums_S = torch.cat([torch.zeros(1, dtype=torch.float64), samples_S.double().cumsum(0)])
    for _ in range(100):
        ends_C = torch.searchsorted(samples_S, (values_C[1:] + values_C[:-1]) / 2)
        ends = torch.cat([ends_C.new_zeros(1), ends_C, ends_C.new_tensor([len(samples_S)])])
        counts_C = ends.diff()
        means_C = (sums_S[ends].diff() / counts_C.clamp_min(1)).float()
        values_C = torch.where(counts_C > 0, means_C, values_C)
    return values_C
