"""A search over the merge method as well as the weights, by one of nevergrad's optimizers over a mixed space.

What is there is scored first, by the method that leaves a single adapter as it is where one is named (`MethodSpace
.plain`): base (w = 0) and singles (w = 1) are the same under `exact` and `lorahub`, the uniform mix is not. Then the
optimizer goes on from the best of that, over the method, its searched options and the weights of the best adapters.
The gate judges what it finds as it does all of nevergrad's searches. Used through `compose.search.search(methods=...)`.

Measured, 40 evaluations. Synthetic: one linear layer, 8 adapters, the target a mix of three by exact, lorahub or ties
(12 draws each, searched over these three with density 0.2 to 0.9), median share of the target's output left over.
Demo: 16 tasks x draws 0 and 1, exact and lorahub, exact match on 60 strings (Cobyla under exact alone 0.65, under
lorahub alone 0.48; with ties and its density too 0.61).

    optimizer            exact   lorahub   ties    demo
    Cobyla                0.02    0.19     0.20    0.65
    DiscreteOnePlusOne    0.15    0.26     0.39    0.41
    NGOpt                 0.19    0.36     0.39    0.27
    OnePlusOne            0.18    0.34     0.41    0.15
    NgIohTuned            0.23    0.30     0.44     -

So it is Cobyla, and DiscreteOnePlusOne where several are asked at once. It finds good weights and seldom the method
that made the target: under the oracle's method alone Cobyla has 0.02, 0.03 and 0.08. Starting under the method that is
best at an equal mix of the best three singles gives 0.02, 0.06 and 0.07, but 0.56 on the demo, where it is misled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .nevergrad_run import NevergradRun
from .trials import Ledger

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
        bounds: tuple[float, float],
        gated: bool = True,
        top: int = 0,
    ) -> None:
        super().__init__(
            names, ledger, seed=seed, workers=workers, optimizer=optimizer, bounds=bounds, gated=gated, top=top
        )
        self._methods = methods
        self._further = len(methods.choices) - 1 + len(methods.searched)

    def _numbers(self) -> int:
        """A choice among so many methods is worth one number less than there are of them."""
        return super()._numbers() + self._further
