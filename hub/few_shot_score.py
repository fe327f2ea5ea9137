"""The few-shot scores of a search's result with their bootstrap intervals, for every report of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from compose.intervals import Interval, Scored, few_shot_intervals, interval_of

MIX = "mix"
BASELINES = ("base", "uniform", "best_single")


def losses_of(result: Mapping[str, Any], intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Mean loss over the examples, by the `BASELINES` and `MIX`, of what there is; inf where it is not finite.

    The preset divides its own loss by the number of examples once more, and scores no baselines: of both the mean is
    told that the `intervals` are of, so that it can be compared with every other search.
    """
    baselines = result.get("baselines") or {}
    stored = {name: baselines[name]["loss"] for name in BASELINES if baselines.get(name)}
    if "loss" in result:
        stored[MIX] = result["loss"]
    if result.get("preset"):
        stored = {name: intervals[name].mean for name in BASELINES if name in intervals} | stored
        stored |= {MIX: intervals[MIX].mean} if MIX in intervals else {}
    return {name: math.inf if loss is None else float(loss) for name, loss in stored.items()}


def intervals_of(result: Mapping[str, Any], trials: Iterable[Scored]) -> dict[str, Interval]:
    """By `MIX` and the `BASELINES`, from a result as it is stored; without those that have no interval."""
    baselines = result.get("baselines") or {}
    compared = {name: (baselines.get(name) or {}).get("weights") for name in BASELINES}
    compared[MIX] = result.get("weights")
    if result.get("preset"):
        compared["base"] = [0.0] * len(result.get("weights") or ())
    found = few_shot_intervals(trials, {name: weights for name, weights in compared.items() if weights})
    if result.get("preset") and "base" not in found:  # none of its trials; it was scored to explain the mix
        shown = ((result.get("explanation") or {}).get("example_losses") or {}).get("base") or ()
        one = interval_of([math.inf if loss is None else loss for loss in shown])
        found |= {} if one is None else {"base": one}
    return found


def span(interval: Interval | None) -> str:
    """Its two ends, as text; empty without one."""
    return "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
