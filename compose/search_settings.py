"""Settings of a search: which go together. Checked before anything is loaded, and every error names what repairs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .baselines import check_budget
from .errors import SearchError
from .grouped_fit import check_group_budget
from .nevergrad_run import check_reach
from .space import Space
from .top_mix import TOP

FIT, ADAM = "fit", "adam"
OWN = (None, FIT, ADAM)
"""Optimizers that are not nevergrad's. (Its registry has an Adam too, under other names.)"""
SMOOTH = ("exact", "lorahub")
"""Methods whose mixes have gradients by the weights. Others are made one by one, without; the roots of peft-linear have
no slope at 0, where a search begins."""
FIT_BOUNDS = (0.0, 1.5)
NEVERGRAD_BOUNDS = (-1.5, 1.5)
LORAHUB = "lorahub"


def check_settings(
    names: Sequence[str],
    *,
    budget: int,
    seed: int,
    workers: int,
    optimizer: str | None,
    preset: str | None,
    bounds: tuple[float, float] | None,
    simplex: bool = False,
    scale: tuple[float, float] | None = None,
    groups: int | None = None,
    gate: bool = True,
    top: int = TOP,
    method: str,
    params: Mapping[str, object],
) -> None:
    """`SearchError` for settings that no search can have, before anything is loaded; nevergrad is, if named. `groups`:
    how many weights an adapter has, None for one in all."""
    if method == "slerp":
        _check_slerp(len(names), limits_of(bounds, optimizer, simplex=simplex))
    if not names:
        raise SearchError("there is no adapter to search", remedy="name at least one adapter")
    if budget < 1 or workers < 1:
        raise SearchError(f"budget {budget} and workers {workers} must be at least 1")
    if not 0 <= seed < 2**32:
        raise SearchError(f"the seed {seed} is not between 0 and 2**32 - 1")
    if bounds is not None and not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise SearchError(f"the bounds {bounds} are not a lower and an upper finite number")
    if optimizer == ADAM and preset is None and method not in SMOOTH:
        raise SearchError(
            f"adam needs gradients by the weights, which mixes by the method {method} do not have",
            remedy=f"--optimizer {FIT} or Cobyla, or --method {' or '.join(SMOOTH)}",
        )
    if simplex and preset is not None:
        raise SearchError(f"the preset {preset} has no simplex", remedy="leave --preset or --simplex out")
    if simplex:
        _check_sums(limits_of(bounds, optimizer), scale or (1.0, 1.0), len(names))
    elif scale is not None:
        raise SearchError("a scale is for weights that add up to something", remedy="--simplex --scale 0.5,1.5")
    if top < 0:
        raise SearchError(f"top is {top}, it must be at least 0")
    if groups is not None and preset is None and optimizer not in OWN:
        raise SearchError(
            f"groups are fitted or descended on; {optimizer} searches weights of whole adapters",
            remedy=f"leave --groups out, or --optimizer {FIT} or {ADAM} with a loss as the objective",
        )
    if not gate and preset is None and optimizer in (None, FIT):
        raise SearchError(
            "the fit always holds examples out", remedy="leave --no-gate out, or --optimizer Cobyla"
        )  # fmt: skip
    if preset is None:
        check_budget(budget, len(names))
        if optimizer in (None, FIT):
            check_group_budget(budget, len(names), groups or 1)
        if optimizer not in OWN:
            from .nevergrad_search import check_optimizer

            check_optimizer(optimizer, workers=workers)
            if simplex:
                within = limits_of(bounds, optimizer, simplex=True)
                check_reach(Space(len(names), within, True, scale=scale or (1.0, 1.0)), budget)
    else:
        others = (optimizer, bounds, groups)
        _check_preset(preset, workers=workers, others=others, method=method, params=params)


def _check_sums(bounds: tuple[float, float], scale: tuple[float, float], adapters: int) -> None:
    low, high = scale
    if not 0 <= low <= high < np.inf or high == 0:
        raise SearchError(f"the scale {scale} is not from 0 or more to a finite number above it", remedy="0.5,1.5")
    if bounds[0] > 0 or bounds[1] <= 0:
        raise SearchError(
            f"on the simplex a weight may be 0 and may be more; the bounds are {bounds[0]:g} to {bounds[1]:g}",
            remedy="leave --bounds out, or --bounds 0,1",
        )
    if bounds[1] * adapters < low:
        total = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        raise SearchError(
            f"no {adapters} weights within {bounds} are 0 or more and add up to {total}",
            remedy="leave --bounds out, or lower --scale",
        )


def limits_of(
    bounds: tuple[float, float] | None, optimizer: str | None, *, simplex: bool = False
) -> tuple[float, float]:
    """Of every weight: `bounds`, or the optimizer's default; not below 0 on the simplex."""
    low, high = bounds or (FIT_BOUNDS if optimizer in OWN else NEVERGRAD_BOUNDS)
    return (max(0.0, low) if simplex else low), high


def _check_slerp(adapters: int, bounds: tuple[float, float]) -> None:
    if adapters > 2:
        raise SearchError(f"slerp goes between two adapters, not {adapters}", remedy="name two, or another --method")
    if bounds[0] < 0:
        raise SearchError(f"slerp takes weights from 0, the search has {bounds[0]:g} too", remedy="use --bounds 0,1.5")


def _check_preset(
    preset: str, *, workers: int, others: tuple[object, ...], method: str, params: Mapping[str, object]
) -> None:
    if preset != LORAHUB:
        raise SearchError(f"there is no preset {preset!r}", remedy=f"use {LORAHUB}")
    if workers != 1 or any(other is not None for other in others):
        raise SearchError(
            f"the preset {LORAHUB} fixes optimizer, workers and bounds, and has no groups",
            remedy="leave them out, or the preset",
        )
    if (method, params.get("fold")) != ("lorahub", "lorahub-compat"):
        raise SearchError(
            f"the preset {LORAHUB} needs a scorer of the method lorahub with the fold lorahub-compat, this one has "
            f"{method} with {dict(params)}",
            remedy="--method lorahub --param fold=lorahub-compat",
        )
