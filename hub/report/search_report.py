"""All that is known of a search, from what is stored: for `mixhub report`, as JSON, and for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compose.intervals import Interval
from hub.actions.search_plan import chooses_method
from hub.actions.show import search_of
from hub.address import parse_address
from hub.few_shot_score import MIX, intervals_of, losses_of
from hub.home import Home
from hub.metric_of_loss import Metric, metric_of
from storage import searches
from storage.errors import NotFound
from storage.searches import Search, Trial

HARM = 2.0
"""Standard errors that an adapter must make a mix worse by, to be said to harm it."""
ROUNDING = 5e-5
"""What is shown as 0.0000 in the losses of reports."""
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
    error: str = ""
    """Why it failed or was stopped before it had a result."""

    @property
    def metric(self) -> Metric | None:
        """What the losses stand for; None: they are losses."""
        return metric_of(str(self._options.get("objective", "loss")), len(self.config.get("examples", ())))

    @property
    def minimised(self) -> str:
        """What the losses are, in a few words."""
        return f"1 - {self.metric.name}, a share of the loss breaks ties" if self.metric else "mean over the examples"

    @property
    def preset(self) -> str:
        return str((self.result or {}).get("preset") or "")

    @property
    def found_by(self) -> str:
        """The mix, as a row of a table."""
        return f"found ({self.preset or 'default'} search)"

    @property
    def budget(self) -> int:
        return int(self._options.get("budget") or 0)

    @property
    def usage(self) -> Mapping[str, Any]:
        """What was done to the rows: templates, label texts, stop strings."""
        return self.config.get("usage") or {}

    @property
    def origin(self) -> str:
        """How it was made, in one line."""
        result, ended = self.result or {}, self.finished_at or self.created_at
        made = f"{result.get('evaluations', len(self.trials))} evaluations"
        how = f", {result.get('optimizer')}, seed {result.get('seed')}" if result else ""
        where = f", published as {result['published']}" if result.get("published") else ""
        return f"{made}{how}, {self.status} {ended:%Y-%m-%d %H:%M} UTC, search {self.uuid[:12]}{where}"

    @property
    def guarded(self) -> bool:
        """Whether other rows must not get worse."""
        return bool(self.config.get("guard"))

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
    def losses_without(self) -> dict[str, float]:
        """Adapter -> the mix's mean loss without it."""
        return {str(one["name"]): _number(one["loss_without"]) for one in self._explanation.get("contributions", ())}

    @property
    def gain_errors(self) -> dict[str, float]:
        """Their standard errors, where known."""
        listed = self._explanation.get("contributions", ())
        return {str(one["name"]): float(one["error"]) for one in listed if one["error"] is not None}

    @property
    def harmful(self) -> list[str]:
        """Adapters without which the mix does better: by more than noise over the examples, and than rounding."""
        errors = self.gain_errors
        return [
            name
            for name, gain in self.gains.items()
            if gain < -ROUNDING and name in errors and gain < -HARM * errors[name]
        ]

    @property
    def explained_by(self) -> int:
        """Evaluations that the contributions took."""
        return int(self._explanation.get("evaluations", 0))

    @property
    def mean_losses(self) -> dict[str, float]:
        """Of each of `compared`, over the examples."""
        rows = self.examples
        return {name: sum(row.losses[name] for row in rows) / len(rows) for name in self.compared}

    @property
    def candidates(self) -> dict[str, float]:
        """What was there before and what was found -> its loss."""
        return {self._shown(name): loss for name, loss in losses_of(self.result or {}, self._intervals).items()}

    @property
    def intervals(self) -> dict[str, Interval]:
        """90 % bootstrap intervals of the `candidates`' mean losses over the examples, where they are known."""
        return {self._shown(name): one for name, one in self._intervals.items()}

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The metric of the `candidates` and of what is `held_out`; None where the objective is a loss."""
        if self.metric is None:
            return None
        held_out = {str(one["name"]): _number(one["loss"]) for one in self.held_out}
        return {**self.metric.as_dict(self.candidates), "held_out": self.metric.as_dict(held_out)["values"]}

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
        if MIX not in found:
            why = f": {self.error}" if self.error else ""
            return f"The search has no result yet; it is {self.status}{why}."
        return self._judged(result, found) + self._measured(found)

    def _judged(self, result: Mapping[str, Any], found: Mapping[str, float]) -> str:
        if sentence := self._gate.get("sentence"):
            return str(sentence)
        if result.get("fell_back"):
            return f"No mix was better than {result['fell_back']} on these examples, so {result['fell_back']} was kept."
        others = {name: loss for name, loss in found.items() if name != MIX}
        if not others:
            return f"The mix has a loss of {found['mix']:.4f}; nothing was scored to compare it with."
        name, best = min(others.items(), key=lambda pair: pair[1])
        return (
            f"The mix has a loss of {found['mix']:.4f} on the examples, {best - found['mix']:.4f} below the best of "
            f"what was there ({name}, {best:.4f})."
        )

    def _measured(self, found: Mapping[str, float]) -> str:
        """What the verdict's losses mean, in the metric that was asked for; held-out, where they are."""
        metric = self.metric
        if metric is None:
            return ""
        told = {str(one["name"]): _number(one["loss"]) for one in self.held_out} or found
        values = ", ".join(f"{metric.of(loss):.3f} ({name})" for name, loss in told.items())
        return f" {metric.title.capitalize()}{' on those examples' if self.held_out else ''}: {values}."

    @property
    def held_out(self) -> list[Mapping[str, Any]]:
        """What the gate compared on examples that the mix was not fitted to: name, loss, low and high end of each, and
        in how many resamples it is ahead of the base."""
        return list(self._gate.get("estimates", ()))

    @property
    def kept(self) -> str:
        """Which of `held_out` was kept."""
        return str(self._gate.get("kept", ""))

    @property
    def folds(self) -> int:
        return int(self._gate.get("folds", 0))

    def named(self, weights: Sequence[float]) -> list[tuple[str, float]]:
        """(N * G,) weights of a trial, each with its adapter, and with its group where there are groups."""
        groups = self.groups or tuple((self.config.get("groups") or {}).get("names") or ())
        names = [f"{one} {group}" for one in self.adapters for group in groups] if groups else self.adapters
        return list(zip(names, weights, strict=False))

    @property
    def tradeoffs(self) -> list[Mapping[str, Any]]:
        """Trials (number, target, guard, adapters) that no other beats in all three."""
        return list((self.result or {}).get("tradeoffs") or ())

    @property
    def chosen_trials(self) -> set[int]:
        """Numbers of the trials of the mix that was chosen."""
        weights = tuple((self.result or {}).get("weights") or ())
        return {trial.number for trial in self.trials if trial.weights == weights}

    @property
    def notes(self) -> list[str]:
        """What else a reader should know, from before the search and of its result."""
        result = self.result or {}
        said = [*(self.config.get("notes") or ()), *(result.get("notes") or ())]
        if self._chose_method:
            said.append(
                "An earlier version of mixhub chose among methods or their options in this search; which trial was "
                "mixed how is not shown, nor are intervals. The recipe of its mix has what was chosen."
            )
        return [str(note) for note in said if not self.verdict.startswith(note)]

    @property
    def best_loss(self) -> float | None:
        """Of the mix; without a result the lowest that was scored. Means over the examples; None: nothing was."""
        scored = [trial.loss for trial in self.trials if trial.kind != "fold"]
        return self.candidates.get(MIX, min(scored, default=None))

    def summary(self) -> dict[str, Any]:
        """The search as a row of a list of them."""
        best = self.best_loss
        return {
            "search": self.uuid,
            "created_at": self.created_at.isoformat(),
            "status": self.status,
            "adapters": list(self.adapters),
            "objective": str(self._options.get("objective", "loss")),
            "best_loss": best,
            "best_metric": self.metric.of(best) if self.metric and best is not None else None,
            "published": (self.result or {}).get("published"),
        }

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
            "metric": self.metrics,
            "error": self.error or None,
            "trials": [vars(trial) for trial in self.trials],
        }

    @property
    def _gate(self) -> Mapping[str, Any]:
        gate = (self.result or {}).get("gate")
        return gate if isinstance(gate, Mapping) else {}

    @property
    def _chose_method(self) -> bool:
        return chooses_method(self._options.get("method"), self._options.get("params") or {})

    @property
    def _options(self) -> Mapping[str, Any]:
        return self.config.get("options") or {}

    @property
    def _intervals(self) -> dict[str, Interval]:
        return {} if self._chose_method else intervals_of(self.result or {}, self.trials)

    def _shown(self, candidate: str) -> str:
        """A candidate's name for people."""
        single = ((self.result or {}).get("baselines") or {}).get("best_single_name")
        name = BASELINES.get(candidate, candidate)
        return f"{name}: {single}" if candidate == "best_single" and single else name

    @property
    def _explanation(self) -> Mapping[str, Any]:
        return (self.result or {}).get("explanation") or {}


def stored_report(home: Home, search: str) -> SearchReport:
    """The report of a search by its id, the start of it, or the address of the mix that it found. `NotFound` when there
    is no such search, or the mix was not found by one of this home."""
    uuid = search_of(home, parse_address(search)) if "/" in search else search
    try:
        with home.read() as session:
            row = searches.find(session, uuid)
            return _report(row, searches.trials(session, row))
    except NotFound as error:
        elsewhere = f"{search} was found by the search {uuid[:12]}, which is of another home"
        said = str(error) if uuid == search else elsewhere
        raise NotFound(said, remedy="mixhub report lists the searches of this home") from error


def stored_reports(home: Home, *, limit: int | None = None) -> list[SearchReport]:
    """The searches of the home, the newest first, at most `limit`."""
    with home.read() as session:
        return [_report(row, searches.trials(session, row)) for row in searches.every(session, limit=limit)]


def _report(row: Search, trials: Sequence[Trial]) -> SearchReport:
    result = row.result if row.result and "weights" in row.result else None
    return SearchReport(
        row.uuid, row.status, row.created_at, row.finished_at, tuple(one.full_name for one in row.adapters), row.config,
        row.examples_digest, result, tuple(trials), str((row.result or {}).get("error") or ""),
    )  # fmt: skip


def _number(value: Any) -> float:
    return math.inf if value is None else float(value)
