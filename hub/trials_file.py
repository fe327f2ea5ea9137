"""mixhub_trials.jsonl: every trial of the search that found a mix, published beside it; the recipe holds its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Protocol

from hub.finite import finite

TRIALS_FILE = "mixhub_trials.jsonl"


class AnyTrial(Protocol):
    """A trial, as searched or as stored."""

    @property
    def number(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def weights(self) -> tuple[float, ...]: ...
    @property
    def loss(self) -> float: ...
    @property
    def objective(self) -> float: ...


def trials_text(trials: Iterable[AnyTrial]) -> str:
    """A line of JSON each, in order; the same trials give the same bytes. A loss that is not finite is null."""
    lines = (
        {
            "number": trial.number,
            "kind": trial.kind,
            "weights": list(trial.weights),
            "loss": finite(trial.loss),
            "objective": finite(trial.objective),
        }
        for trial in trials
    )
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def digest(text: str) -> str:
    """sha256 (hex) of the file's text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
