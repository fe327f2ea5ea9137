"""The metric behind the losses of a search by metric, as people know it: higher is better, 1 is all right.

Such a search minimises 1 - metric of each example, plus a share of the loss that breaks ties and is less than one
example's weight in all (compose/scoring/tie_break.py). Of a metric that is 0 or 1 on an example, the mean loss so says
how many are right; of a graded one (f1, rouge) it says what the metric is at least, short by less than 1 / (E + 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

LOSSES = ("loss", "choice_loss")
RIGHT_OR_WRONG = ("acc", "acc_norm", "acc_bytes", "exact_match", "squad_em")
ROUNDING = 1e-6
"""In examples; far less than the gap between the largest tie-break and a wrong answer."""


@dataclass(frozen=True)
class Metric:
    """`name` for people; `exact`: False where only a lower bound of the metric is known; `examples`: E."""

    name: str
    exact: bool
    examples: int

    @property
    def title(self) -> str:
        return self.name if self.exact else f"{self.name}, at least"

    def of(self, loss: float) -> float:
        """Of a mean loss over the examples, from 0 (wrong) to 1 (right)."""
        if not math.isfinite(loss):
            return 0.0
        if self.exact:
            return max(0.0, 1 - math.floor(self.examples * loss + ROUNDING) / self.examples)
        return max(0.0, 1 - loss)

    def span(self, low: float, high: float) -> str:
        """The two ends of an interval of losses, as text of the metric."""
        return f"{self.of(high):.3f} to {self.of(low):.3f}"

    def as_dict(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """The metric of each of the `losses`."""
        return {
            "name": self.name,
            "exact": self.exact,
            "values": {name: self.of(loss) for name, loss in losses.items()},
        }


def metric_of(objective: str, examples: int) -> Metric | None:
    """None: the objective is a loss itself."""
    if objective in LOSSES or not examples:
        return None
    kind, _, path = objective.partition("lm-eval:")
    name = objective.replace("_", " ") if ":" not in objective else objective
    return Metric(
        f"metric of {PurePath(path).name}" if path and not kind else name, objective in RIGHT_OR_WRONG, examples
    )
