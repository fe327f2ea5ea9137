"""What one group of an adapter's modules does by itself, for the fit: slopes from adapters that are only partly there.

An adapter is scored with its first group alone, with its first two, and so on; what each step changes is the slope of
the group that came with it. So the slopes of an adapter's groups add up to the slope of the whole adapter, which was
scored already, G groups cost G - 1 evaluations an adapter, and equal weights over the groups are predicted as without
groups. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .baselines import baseline_count
from .errors import SearchError
from .margin_model import MarginModel, log_odds

Floats = NDArray[np.float64]

FITTING = 20
"""Evaluations that are kept for the fits and their folds."""


def split_count(adapters: int, groups: int, budget: int) -> int:
    """How many adapters the budget lets be scored in parts."""
    if groups < 2:
        return 0
    left = budget - baseline_count(adapters) - FITTING
    return max(0, min(adapters, left // (groups - 1)))


def check_split_budget(budget: int, adapters: int, groups: int) -> None:
    """`SearchError` where not even one adapter could be scored in parts; names both budgets that would do."""
    if groups > 1 and split_count(adapters, groups, budget) < 1:
        first = baseline_count(adapters)
        least = first + FITTING + groups - 1
        raise SearchError(
            f"a budget of {budget} is too small to fit {groups} groups of {adapters} adapters: {first} evaluations "
            f"come first, each adapter takes {groups - 1} to be looked at in parts, and the fit {FITTING}",
            remedy=f"--budget {least} looks at the best adapter in parts, "
            f"{least + (adapters - 1) * (groups - 1)} at all",
        )


def partial_rows(chosen: Sequence[int], adapters: int, groups: int) -> Floats:
    """(len(chosen) * (G - 1), N * G): each of the adapters `chosen` at weight 1 in its first 1, 2, ... G - 1 groups."""
    rows = np.zeros((len(chosen), groups - 1, adapters, groups))
    for row, adapter in zip(rows, chosen, strict=True):
        row[:, adapter] = np.tri(groups - 1, groups)
    return rows.reshape(-1, adapters * groups)


def model_by_groups(base: Floats, singles: Floats, partials: Mapping[int, Floats], groups: int) -> MarginModel:
    """From the example losses of the base (E,), the whole adapters (N, E) and, by adapter, its `partial_rows`
    (G - 1, E). The groups of an adapter without any share its slope evenly."""
    whole = MarginModel.of_singles(base, singles)
    slopes = np.repeat(whole.slopes / groups, groups, axis=0)
    for adapter, losses in partials.items():
        steps = log_odds(np.concatenate([base[None], losses, singles[adapter][None]]))
        slopes[adapter * groups : (adapter + 1) * groups] = np.diff(steps, axis=0)
    return MarginModel(np.zeros(len(slopes)), whole.margins, slopes)
