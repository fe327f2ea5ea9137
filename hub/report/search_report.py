"""All that is known of a search, from what is stored: for `mixhub report`, as JSON, and for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compose.intervals import Interval
from hub.actions.seen_examples import from_data
from hub.few_shot_score import intervals_of
from hub.home import Home
from hub.methods_tried import MethodTried, chosen_way, methods_tried
from storage import searches
from storage.searches import Search, Trial

BASELINES = {"base": "base", "uniform": "uniform", "best_single": "best single"}


@dataclass(frozen=True)
class ExampleRow:
    """One example with its loss under each of what was compared (`SearchReport.compared`)."""

    number: int
    input: str
    output: str
    losses: Mapping[str, float]


@dataclass(frozen=True)
class SearchReport:
    """`result` is None until the search has one. Losses are means over the examples, lower is better."""

    uuid: str
    status: str
    created_at: datetime
    finished_at: datetime | None
    adapters: tuple[str, ...]
    config: Mapping[str, Any]
    examples_sha256: str
    result: Mapping[str, Any] | None
    trials: tuple[Trial, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of modules that have weights of their own; none: one weight for each adapter."""
        return tuple((self.result or {}).get("groups") or ())

    @property
    def group_weights(self) -> dict[str, tuple[float, ...]]:
        """Adapter -> its weights, one for each group, or just one; empty without a result."""
        found, size = (self.result or {}).get("weights") or (), max(1, len(self.groups))
        rows = [tuple(found[i : i + size]) for i in range(0, len(found), size)]
        return dict(zip(self.adapters, rows, strict=False))

    @property
    def weights(self) -> dict[str, float]:
        """Adapter -> weight, the mean over its groups; empty without a result."""
        return {name: sum(row) / len(row) for name, row in self.group_weights.items()}

    @property
    def gains(self) -> dict[str, float]:
        """Adapter -> how much the loss rises without it, greatest first; it may be infinite."""
        return {str(one["name"]): _number(one["gain"]) for one in self._explanation.get("contributions", ())}

    @property
    def gain_errors(self) -> dict[str, float]:
        """Their standard errors, where known."""
        listed = self._explanation.get("contributions", ())
        return {str(one["name"]): float(one["error"]) for one in listed if one["error"] is not None}

    @property
    def mean_losses(self) -> dict[str, float]:
        """Of each of `compared`, over the examples."""
        rows = self.examples
        return {name: sum(row.losses[name] for row in rows) / len(rows) for name in self.compared}

    @property
    def candidates(self) -> dict[str, float]:
        """What was there before and what was found -> its loss."""
        result = self.result or {}
        found = {}
        for key, name in BASELINES.items():
            trial = (result.get("baselines") or {}).get(key)
            if trial is not None:
                found[name] = _number(trial["loss"])
        single = (result.get("baselines") or {}).get("best_single_name")
        if single and "best single" in found:
            found[f"best single: {single}"] = found.pop("best single")
        if "loss" in result:
            found["mix"] = _number(result["loss"])
        return found

    @property
    def intervals(self) -> dict[str, Interval]:
        """90 % bootstrap intervals of the `candidates`' mean losses over the examples, where they are known."""
        single = ((self.result or {}).get("baselines") or {}).get("best_single_name")
        shown = {"best_single": f"best single: {single}" if single else "best single"}
        return {shown.get(name, name): one for name, one in intervals_of(self.result or {}, self.trials).items()}

    @property
    def examples(self) -> list[ExampleRow]:
        """The examples in order; without losses where no explanation was made."""
        losses = self._explanation.get("example_losses", {})
        return [
            ExampleRow(
                i + 1,
                str(row["input"]),
                str(row["output"]),
                {name: _number(values[i]) for name, values in losses.items()},
            )
            for i, row in enumerate(self.config.get("examples", ()))
        ]

    @property
    def compared(self) -> list[str]:
        """The columns of the table of examples; the mix comes last."""
        names = list(self._explanation.get("example_losses", ()))
        return sorted(names, key=lambda name: name == "mix")

    @property
    def verdict(self) -> str:
        """One sentence: whether mixing helped on these examples."""
        result, found = self.result or {}, self.candidates
        if "mix" not in found:
            return f"The search has no result yet; it is {self.status}."
        if gate := _sentence(result.get("gate")):
            return gate
        if result.get("fell_back"):
            return f"No mix was better than {result['fell_back']} on these examples, so {result['fell_back']} was kept."
        others = {name: loss for name, loss in found.items() if name != "mix"}
        if not others:
            return f"The mix has a loss of {found['mix']:.4f}; nothing was scored to compare it with."
        name, best = min(others.items(), key=lambda pair: pair[1])
        return (
            f"The mix has a loss of {found['mix']:.4f} on the examples, {best - found['mix']:.4f} below the best of "
            f"what was there ({name}, {best:.4f})."
        )

    @property
    def mixed_by(self) -> str:
        """The method that was chosen with its options; empty where the search had one, or found no mix."""
        return chosen_way(self.result, self.trials)

    @property
    def methods(self) -> list[MethodTried]:
        """What each method came to, the best first; none where the search had one."""
        return methods_tried(self.trials)

    @property
    def held_out(self) -> list[Mapping[str, Any]]:
        """What the gate compared on examples that the mix was not fitted to: name, loss, low and high end of each."""
        gate = (self.result or {}).get("gate")
        return list(gate.get("estimates", ())) if isinstance(gate, Mapping) else []

    @property
    def notes(self) -> list[str]:
        found = [str(note) for note in (self.result or {}).get("notes") or () if note != self.verdict]
        return [*self.seen_before, *found]

    @property
    def seen_before(self) -> list[str]:
        """A sentence for each adapter that was trained or searched on some of the examples before."""
        seen = from_data(self.config.get("seen_examples", ()))
        return [one.sentence(len(self.config["examples"])) for one in seen]

    def as_dict(self) -> dict[str, Any]:
        return {
            "search": self.uuid,
            "status": self.status,
            "created_at": self.created_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "verdict": self.verdict,
            "adapters": list(self.adapters),
            "examples_sha256": self.examples_sha256,
            "config": dict(self.config),
            "result": dict(self.result) if self.result else None,
            "intervals": {name: vars(one) for name, one in self.intervals.items()},
            "methods": [one.as_dict() for one in self.methods],
            "trials": [vars(trial) for trial in self.trials],
        }

    @property
    def _explanation(self) -> Mapping[str, Any]:
        return (self.result or {}).get("explanation") or {}


def stored_report(home: Home, uuid: str) -> SearchReport:
    """The report of a search by its id or the start of it. `NotFound` when there is no such search."""
    with home.read() as session:
        row: Search = searches.find(session, uuid)
        trials = searches.trials(session, row)
    result = row.result if row.result and "weights" in row.result else None
    return SearchReport(
        row.uuid, row.status, row.created_at, row.finished_at, tuple(one.full_name for one in row.adapters), row.config,
        row.examples_digest, result, tuple(trials),
    )  # fmt: skip


def _sentence(gate: Any) -> str:
    """What the gate said, if the search had one."""
    return str(gate.get("sentence", "")) if isinstance(gate, Mapping) else str(gate or "")


def _number(value: Any) -> float:
    return math.inf if value is None else float(value)
