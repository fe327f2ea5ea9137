"""A search over the merge method as well as the weights, by one of nevergrad's optimizers over a mixed space.

What is there is scored first, by the method that leaves a single adapter as it is where one is named (`MethodSpace
.plain`): base (w = 0) and singles (w = 1) are the same under `exact` and `lorahub`, the uniform mix is not. Then the
optimizer goes on from the best of that, over the method, its searched options and the weights of the best adapters.
The gate judges what it finds as it does all of nevergrad's searches. Used through `compose.search.search(methods=...)`.

Measured, 40 evaluations. Synthetic, with an earlier gate and before the uniform mix of the best took one of them: one
linear layer, 8 adapters, the target a mix of three by exact, lorahub or ties (12 draws each, searched over these three
with density 0.2 to 0.9), median share of the target's output left over.

    optimizer            exact   lorahub   ties
    Cobyla                0.02    0.19     0.20
    DiscreteOnePlusOne    0.15    0.26     0.39
    NGOpt                 0.19    0.36     0.39
    OnePlusOne            0.18    0.34     0.41
    NgIohTuned            0.23    0.30     0.44

So it is Cobyla, and DiscreteOnePlusOne where several are asked at once. It finds good weights and seldom the method
that made the target: under the oracle's method alone Cobyla has 0.02, 0.03 and 0.08.

Demo (16 tasks x draws 0 and 1, 15 adapters, exact match on 60 strings), Cobyla, without and with the gate: exact alone
0.64 and 0.61, lorahub alone 0.48 and 0.46, both 0.60 and 0.56 (exact chosen 23 and 28 times of 32), both and ties with
its density 0.60 and 0.56. Another start, under the method that is best at an equal mix of the best three singles, is
better on the synthetic targets (0.02, 0.06 and 0.07) and was worse on the demo, where it is misled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .nevergrad_run import NevergradRun
from .space import Space
from .trials import Ledger, Trial

if TYPE_CHECKING:
    from .method_space import MethodSpace


class MixedRun(NevergradRun):
    """Baselines, then asks of `optimizer` over methods, options and the weights of the best adapters."""

    counted = "number"

    def __init__(
        self,
        names: tuple[str, ...],
        ledger: Ledger,
        methods: MethodSpace,
        *,
        seed: int,
        workers: int,
        optimizer: str,
        space: Space,
        gated: bool = True,
        top: int = 0,
    ) -> None:
        super().__init__(
            names, ledger, seed=seed, workers=workers, optimizer=optimizer, space=space, gated=gated, top=top
        )
        self._methods = methods
        self._settled = methods.settled
        self._further = len(methods.choices) - 1 + len(methods.searched)

    def _starts(self) -> list[Trial]:
        """Not the base: without a weight all methods are the same, and a step to another says nothing of it."""
        found = super()._starts()
        return found if self._settled else [trial for trial in found if trial.kind != "base"] or found

    def _numbers(self) -> int:
        """A choice among so many methods is worth one number less than there are of them."""
        return super()._numbers() + self._further
