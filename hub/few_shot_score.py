"""The few-shot scores of a search's result with their bootstrap intervals, for every report of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from compose.intervals import Interval, Scored, Way, few_shot_intervals

MIX = "mix"
BASELINES = ("base", "uniform", "best_single")


def intervals_of(result: Mapping[str, Any], trials: Iterable[Scored]) -> dict[str, Interval]:
    """By `MIX` and the `BASELINES`, from a result as it is stored; without those that have no interval."""
    baselines = result.get("baselines") or {}
    scored = list(trials)
    compared = {name: (baselines.get(name) or {}).get("weights") for name in BASELINES}
    compared[MIX] = result.get("weights")
    ways: dict[str, Way] = {}
    if any(trial.method for trial in scored):
        mixes = {**{name: baselines.get(name) or {} for name in BASELINES}, MIX: result}
        ways = {name: (one.get("method"), one.get("params")) for name, one in mixes.items()}
    return few_shot_intervals(scored, {name: weights for name, weights in compared.items() if weights}, ways=ways)


def span(interval: Interval | None) -> str:
    """Its two ends, as text; empty without one."""
    return "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
