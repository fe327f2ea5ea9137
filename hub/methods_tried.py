"""What each method that a search tried came to, for every report of a search over the merge method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hub.finite import finite


class Tried(Protocol):
    """A trial, as searched or as stored."""

    @property
    def weights(self) -> Sequence[float]: ...
    @property
    def loss(self) -> float: ...
    @property
    def method(self) -> str | None: ...
    @property
    def params(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True)
class MethodTried:
    """How often a method was tried, its lowest few-shot loss, and the options of that trial."""

    method: str
    trials: int
    best_loss: float
    params: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "trials": self.trials,
            "best_loss": finite(self.best_loss),
            "params": dict(self.params),
        }


def methods_tried(trials: Iterable[Tried]) -> list[MethodTried]:
    """The best method first; none where the search had one. The base alone is of no method, and is left out."""
    found: dict[str, list[Tried]] = {}
    for trial in trials:
        if trial.method is not None and any(trial.weights):
            found.setdefault(trial.method, []).append(trial)
    tried = []
    for method, its in found.items():
        best = min(its, key=lambda trial: _comparable(trial.loss))
        tried.append(MethodTried(method, len(its), best.loss, best.params or {}))
    return sorted(tried, key=lambda one: _comparable(one.best_loss))


def chosen_way(result: Mapping[str, Any] | None, trials: Iterable[Tried]) -> str:
    """How a search's `result`, as it is stored, is mixed; empty where the search had one method, and of no mix."""
    found = result or {}
    if not any(found.get("weights") or ()) or not any(trial.method for trial in trials):
        return ""
    return way(found.get("method"), found.get("params"))


def way(method: str | None, params: Mapping[str, Any] | None) -> str:
    """A method with its options, for people; empty: the search's own."""
    text = options_text(params)
    return f"{method or ''} ({text})" if text else method or ""


def options_text(params: Mapping[str, Any] | None) -> str:
    """Options with their values, for people."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in (params or {}).items()
    )


def _comparable(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss
