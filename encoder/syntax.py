"""What may not be written next: tokens after which no SMILES could be valid, and tokens that would say the same again and again."""

# Shape legend:  B items, N rows of one item, L outputs written, V outputs of a task, R ring closures, W windows of outputs

import re
from collections.abc import Callable

import torch
from torch import Tensor

from encoder.model.decoder import END
from encoder.tokenizer import SmilesVocabulary

Forbid = Callable[[Tensor], Tensor]
"""From the outputs written (B, N, L) to the outputs that may not follow, True in (B, N, V) or in what broadcasts to it."""

_RING = re.compile(r"\d|%\d\d|%\(\d+\)")
_BONDS = frozenset("-=#$:/\\~.")


class SmilesSyntax:
    """Forbids to close what is not open, and to end while a branch or a ring is open or a bond leads nowhere."""

    def __init__(self, vocabulary: SmilesVocabulary) -> None:
        outputs = {token: output for output, token in enumerate(vocabulary.tokens, start=1)}
        self._count = len(vocabulary) + 1
        self._open, self._close = outputs["("], outputs[")"]
        self._rings_R = torch.tensor([output for token, output in outputs.items() if _RING.fullmatch(token)])
        self._dangling_V = torch.zeros(self._count, dtype=torch.bool)
        self._dangling_V[[outputs[token] for token in sorted({*_BONDS, "("} & outputs.keys())]] = True

    def __call__(self, outputs_BNL: Tensor) -> Tensor:
        """The outputs (B, N, V) that may not follow these."""
        forbidden_BNV = torch.zeros(*outputs_BNL.shape[:2], self._count, dtype=torch.bool)
        if outputs_BNL.shape[2] == 0:
            forbidden_BNV[:, :, [END, self._open, self._close]] = True
            return forbidden_BNV
        ones_BNL = torch.ones(1, dtype=torch.int16).expand_as(outputs_BNL)
        counts_BNV = torch.zeros(forbidden_BNV.shape, dtype=torch.int16).scatter_add_(2, outputs_BNL, ones_BNL)
        depth_BN = counts_BNV[:, :, self._open] - counts_BNV[:, :, self._close]
        open_ring_BN = (counts_BNV.index_select(2, self._rings_R) & 1).any(dim=2)
        dangling_BN = self._dangling_V[outputs_BNL[:, :, -1]]
        forbidden_BNV[:, :, END] = (depth_BN > 0) | open_ring_BN | dangling_BN
        forbidden_BNV[:, :, self._close] = (depth_BN <= 0) | dangling_BN
        forbidden_BNV[:, :, self._open] = dangling_BN
        return forbidden_BNV


class NoLoop:
    """Forbids to write as many tokens in a row a second time."""

    def __init__(self, outputs: int, length: int) -> None:
        self._outputs, self._length = outputs, length

    def __call__(self, outputs_BNL: Tensor) -> Tensor:
        """The outputs (B, N, V) that may not follow these."""
        forbidden_BNV = torch.zeros(*outputs_BNL.shape[:2], self._outputs, dtype=torch.bool)
        before = self._length - 1
        if outputs_BNL.shape[2] <= before:
            return forbidden_BNV
        windows_BNWL = outputs_BNL[:, :, :-1].unfold(2, before, 1)
        same_BNW = (windows_BNWL == outputs_BNL[:, :, None, -before:]).all(dim=3)
        following_BNW = outputs_BNL[:, :, before:]
        # A sequence that has ended is padded with END, which may follow END.
        again_BNW = same_BNW & (following_BNW != END)
        return forbidden_BNV.int().scatter_add(2, following_BNW, again_BNW.int()).bool()
