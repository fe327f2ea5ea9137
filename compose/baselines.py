"""What a mix has to beat: the base, the uniform mix and every adapter by itself, scored first and as one batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .errors import SearchError
from .trials import Baselines, Kind, Ledger, Trial


def baseline_count(adapters: int) -> int:
    """Points scored before anything is searched: base, uniform and each adapter; uniform of one adapter is itself."""
    return adapters + 2 if adapters > 1 else 2


def check_budget(budget: int, adapters: int) -> None:
    """`SearchError` with the smallest budget that works: base, uniform and each adapter, also of one."""
    needed = adapters + 2
    if budget < needed:
        singles = "the single adapter" if adapters == 1 else f"{adapters} single adapters"
        raise SearchError(
            f"a budget of {budget} is too small: base, uniform and {singles} come first",
            remedy=f"use --budget {needed} or more; {needed + 18} searches as well",
        )


def score_baselines(ledger: Ledger, adapters: int, groups: int = 1) -> list[Trial]:
    """One batch; gives the trials of the single adapters, in order. They are whole: in all `groups` alike."""
    rows = np.concatenate([np.zeros((1, adapters)), np.full((1, adapters), 1 / adapters), np.eye(adapters)])
    single: Kind = "single"
    kinds: list[Kind] = ["base", "uniform", *([single] * adapters)]
    if adapters == 1:
        rows, kinds = rows[[0, 2]], ["base", "single"]
    base, *others = ledger.score(np.repeat(rows, groups, axis=1), kinds)
    if not math.isfinite(base.loss):
        raise SearchError(
            f"the base model's own loss is {base.loss}", remedy="score in a wider number format: --dtype float32"
        )
    return others[-adapters:]


def stored_baselines(ledger: Ledger, adapters: int) -> list[Trial]:
    """The trials of the single adapters, when they are there already; nothing is scored."""
    there = ledger.trials[: baseline_count(adapters)]
    if len(there) < baseline_count(adapters):
        raise SearchError("the search has not scored its baselines yet", remedy="resume it without --finish")
    return there[-adapters:]


def baselines_of(trials: Sequence[Trial], names: Sequence[str]) -> Baselines:
    """From the first trials of a search, in the order of `score_baselines`."""
    base, *others = trials[: baseline_count(len(names))]
    singles = others[-len(names) :]
    best = min(range(len(singles)), key=lambda i: (singles[i].loss, i))
    return Baselines(base, others[0], singles[best], names[best])
