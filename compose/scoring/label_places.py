"""Where the labels of a group of examples are predicted, and the loss of logits given for just these places.

Made once per group; what is done with it per forward asks nothing back from the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .tokens import Padded


@dataclass(frozen=True)
class LabelPlaces:
    """T label tokens in the rows of one candidate. `within` (T,): their places in hidden states (rows * width, hidden);
    `ids` (T,): the tokens; `owner` (T,): their rows; `column` (T,): which of its row's labels each is, below `width`;
    `counts` (rows,): how many each row has."""

    within: Tensor
    ids: Tensor
    owner: Tensor
    column: Tensor
    counts: Tensor
    width: int
    size: int
    """rows * width"""

    def of(self, candidates: int) -> Tensor:
        """(K * T,): the places of all candidates, whose rows follow one another."""
        starts = torch.arange(candidates, device=self.within.device) * self.size
        return (starts[:, None] + self.within[None]).reshape(-1)

    def mean_losses(self, logits: Tensor) -> Tensor:
        """Mean negative log-likelihood of each row's labels, (K * rows,), in float32 (float64 for float64 logits), from
        `logits` (K * T, vocabulary)."""
        logits = logits.to(self.ids.device)
        candidates = logits.shape[0] // self.ids.shape[0]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        losses = functional.cross_entropy(logits, self.ids.repeat(candidates), reduction="none").view(candidates, -1)
        # not added up by index: a GPU does that in any order
        table = losses.new_zeros(candidates, len(self.counts), self.width)
        table[:, self.owner, self.column] = losses
        return (table.sum(2) / self.counts).reshape(-1)


def label_places(predicting: Tensor, labels: Padded) -> LabelPlaces:
    """From the mask (rows, width) of positions that predict a label, in the order of the real tokens of `labels`."""
    counts = labels.mask.sum(1)
    return LabelPlaces(
        within=predicting.reshape(-1).nonzero()[:, 0],
        ids=labels.ids[labels.mask.bool()],
        owner=torch.repeat_interleave(counts),
        column=(labels.mask.cumsum(1) - 1)[labels.mask.bool()],
        counts=counts,
        width=labels.mask.shape[1],
        size=predicting.numel(),
    )
