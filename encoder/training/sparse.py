"""Sums of table rows with gradients only for the rows used, and an Adam that touches no other row: big tables cost next to nothing."""

# Shape legend:  R rows of the feature matrix (items or tokens), N table rows, U table rows used by a batch, D width
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class UsedRows:
    """A batch's feature matrix over the table rows it uses, by rows and by columns."""

    used: NDArray[np.int64]
    by_row: tuple[Tensor, Tensor, Tensor]  # local ids, offsets, weights
    by_column: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def from_matrix(cls, matrix: sp.csr_matrix) -> "UsedRows":
        """Find the used columns and their transposed structure."""
        columns = matrix.tocsc()
        counts = np.diff(columns.indptr)
        used = np.flatnonzero(counts)
        local = np.zeros(matrix.shape[1], dtype=np.int64)
        local[used] = np.arange(len(used))
        return cls(
            used,
            _bag(local[matrix.indices], matrix.indptr[:-1], matrix.data),
            _bag(columns.indices, columns.indptr[:-1][used], columns.data),
        )


def _bag(ids: NDArray[np.signedinteger], offsets: NDArray[np.signedinteger], weights: NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(offsets.astype(np.int64)), torch.from_numpy(weights.astype(np.float32))


class _SparseSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows_UD: Tensor, batch: UsedRows) -> Tensor:
        ctx.batch = batch  # type: ignore[attr-defined]  # torch documents free attributes of the context
        return _sum(rows_UD, batch.by_row)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sum(gradients[0].contiguous(), ctx.batch.by_column), None  # type: ignore[attr-defined]  # see forward


def _sum(rows: Tensor, bag: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    ids, offsets, weights = (part.to(rows.device) for part in bag)
    return F.embedding_bag(ids, rows, offsets, mode="sum", per_sample_weights=weights)


def weighted_sums(table_ND: Tensor, matrix: sp.csr_matrix) -> Tensor:
    """Return the sums (R, D) of table rows by a feature matrix (R, N), without any gradient."""
    return _sum(table_ND.detach(), _bag(matrix.indices, matrix.indptr[:-1], matrix.data))


class TableAdam:
    """Adam over the rows of one embedding table, lazily: moments of rows that a batch does not use stand still."""

    def __init__(self, table_ND: Tensor, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        self.table_ND = table_ND
        self.mean_ND = torch.zeros_like(table_ND)
        self.square_ND = torch.zeros_like(table_ND)
        self.steps = 0
        self._betas = betas
        self._epsilon = epsilon
        self._pending: tuple[Tensor, Tensor] | None = None

    def look_up(self, matrix: sp.csr_matrix) -> Tensor:
        """Return the sums (R, D) of table rows by a feature matrix (R, N); the next `step` uses their gradient."""
        batch = UsedRows.from_matrix(matrix)
        used_U = torch.from_numpy(batch.used).to(self.table_ND.device)
        rows_UD = self.table_ND.detach()[used_U].requires_grad_()
        self._pending = used_U, rows_UD
        sums: Tensor = _SparseSum.apply(rows_UD, batch)  # type: ignore[no-untyped-call]  # torch leaves apply untyped
        return sums

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the rows that the last look-up used."""
        if self._pending is None:
            raise RuntimeError("step() follows look_up() and backward()")
        used_U, rows_UD = self._pending
        self._pending = None
        if rows_UD.grad is None:
            return
        self.steps += 1
        gradient_UD, (first, second) = rows_UD.grad, self._betas
        mean_UD = self.mean_ND[used_U].lerp_(gradient_UD, 1 - first)
        square_UD = self.square_ND[used_U].mul_(second).addcmul_(gradient_UD, gradient_UD, value=1 - second)
        self.mean_ND[used_U] = mean_UD
        self.square_ND[used_U] = square_UD
        scale = learning_rate / (1 - first**self.steps)
        root_UD = square_UD.div_(1 - second**self.steps).sqrt_().add_(self._epsilon)
        self.table_ND[used_U] = rows_UD.detach().addcdiv_(mean_UD, root_UD, value=-scale)
