"""Search mixing weights for a new task: score, store every trial, publish the best mix. `search_plan.py` says what."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol

from compose.contributions import Explanation, explain
from compose.intervals import Interval
from compose.layer_weights import Weight
from compose.module_groups import by_adapter
from compose.pareto import Tradeoff
from compose.search import finish as finish_search
from compose.search import search as search_weights
from compose.trials import Progress, SearchResult, Trial
from hub.actions.compose import Composed, MixOptions, PinnedPart, mix
from hub.actions.search_objective import rehearse, tradeoffs_of
from hub.actions.search_on_ray import RaySetup, check_in_actors
from hub.actions.search_plan import SearchPlan, begin
from hub.actions.search_scorer import decided_in_float32, scorer_of
from hub.actions.seen_examples import by_adapter as seen_by_adapter
from hub.address import Address
from hub.few_shot_score import intervals_of, losses_of
from hub.finite import finite
from hub.home import Home
from hub.metric_of_loss import metric_of
from hub.ray_cluster import connected
from hub.trials_file import TRIALS_FILE, digest, trials_text
from storage import searches


class Mixer(Protocol):
    """Makes and publishes the mix that a search has found; `mix` does so in the home."""

    def __call__(
        self, home: Home, parts: Sequence[PinnedPart], weights: Sequence[Weight], into: Address, *,
        options: MixOptions, search: Mapping[str, Any], notes: Sequence[str], beside: Mapping[str, str],
    ) -> Composed: ...  # fmt: skip


@dataclass(frozen=True)
class SearchDone:
    uuid: str
    plan: SearchPlan
    result: SearchResult
    composed: Composed | None
    """None: stopped, nothing to publish (the base alone was best), or no address was given."""
    seconds: float
    explanation: Explanation | None = None
    """What each adapter contributes; None: stopped, or finished without scoring."""
    tradeoffs: tuple[Tradeoff, ...] = ()
    """Trials that no other beats in target loss, guard loss and number of adapters; none when finished early."""

    @property
    def intervals(self) -> dict[str, Interval]:
        """Of the few-shot scores (`hub.few_shot_score`)."""
        return intervals_of(_outcome(self.result, self.explanation, None), self.result.trials)

    @property
    def metric(self) -> dict[str, Any] | None:
        """The metric that was searched by, of what was there and of what was found; None where it was a loss."""
        found = metric_of(self.plan.options.objective, len(self.plan.examples))
        if found is None:
            return None
        return found.as_dict(losses_of(_outcome(self.result, self.explanation, None), self.intervals))

    def as_dict(self) -> dict[str, object]:
        return {
            "search": self.uuid,
            "adapters": list(self.result.adapter_names),
            **_outcome(self.result, self.explanation, self.composed),
            "intervals": {name: asdict(one) for name, one in self.intervals.items()},
            "training_overlap": seen_by_adapter(self.plan.seen, "trained"),
            "search_overlap": seen_by_adapter(self.plan.seen, "searched"),
            "preselection": self.plan.preselection,
            "published": self.composed.as_dict() if self.composed else None,
            "objective_name": self.plan.options.objective,
            "metric": self.metric,
            "usage": self.plan.usage.as_dict(),
            "tradeoffs": [asdict(one) for one in self.tradeoffs],
            "trials": [asdict(trial) for trial in self.result.trials],
            "seconds": self.seconds,
        }


def run(
    home: Home,
    plan: SearchPlan,
    *,
    on_start: Callable[[str], None] | None = None,
    on_batch: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    ray: RaySetup | None = None,
    mixer: Mixer = mix,
) -> SearchDone:
    """Score and store trials until the budget is used or Ctrl-C, then publish the best mix if `plan.into` is given.

    After Ctrl-C the result so far is returned (`result.stopped`) and the search can be resumed by its id, which
    `on_start` is told before anything slow begins: a search that is killed can be resumed as well. `stop` is asked
    after loading and after every batch, for a Ctrl-C whose KeyboardInterrupt was lost; once it is true, any error is
    taken for its consequence and raised as KeyboardInterrupt. `ray`: score in actors there; the trials are the same.
    `mixer` makes the mix and publishes it. What fails without the model too, and a Ray that does not answer, is an
    error before anything is stored.
    """
    plan.require_current()
    if ray is not None:
        check_in_actors(plan.options)  # also of a search that began without
    if plan.uuid is None:
        rehearse(plan, in_actors=ray is not None)
    with connected(ray.address) if ray is not None else nullcontext():
        return _carried_out(home, plan, on_start, on_batch, stop, ray, mixer)


def _carried_out(
    home: Home,
    plan: SearchPlan,
    on_start: Callable[[str], None] | None,
    on_batch: Callable[[Progress], None] | None,
    stop: Callable[[], bool],
    ray: RaySetup | None,
    mixer: Mixer,
) -> SearchDone:
    began = time.perf_counter()
    row = begin(home, plan)
    recorder = _Recorder(home, row, on_batch, stop)
    held = ExitStack()
    try:
        if on_start is not None:
            on_start(row.uuid)
        scorer = scorer_of(plan, ray, held)
        recorder.check()
        result = searched(plan, scorer, replay=plan.replay, on_batch=recorder.record)
        if not result.stopped and plan.options.dtype != "float32":
            del scorer  # one base model in memory at a time
            held.close()
            scorer = scorer_of(replace(plan, options=replace(plan.options, dtype="float32")), ray, held)
            result = decided_in_float32(plan.options, scorer, result)
        explanation, composed = None, None
        front: tuple[Tradeoff, ...] = ()
        if not result.stopped:
            explanation, front = _explain(scorer, result), tradeoffs_of(scorer, result)
            recorder.check()
            composed = _publish(home, row.uuid, plan, result, mixer, loss_dtype="float32")
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt) or stop()
        with home.write() as session:
            status = "stopped" if interrupted else "failed"
            searches.end(session, row, status=status, result={"error": str(error)})
        if interrupted and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        held.close()
    with home.write() as session:
        status = "stopped" if result.stopped else "finished"
        searches.end(session, row, status=status, result=_outcome(result, explanation, composed, front))
    return SearchDone(row.uuid, plan, result, composed, time.perf_counter() - began, explanation, front)


def searched(
    plan: SearchPlan, scorer: Any, *, replay: Sequence[Trial] = (), on_batch: Callable[[Progress], None] | None = None
) -> SearchResult:
    """The search that `plan` describes, nothing stored."""
    options = plan.options
    return search_weights(
        [part.name for part in plan.parts], scorer, budget=options.budget, seed=options.seed,
        workers=options.workers, optimizer=options.optimizer, preset=options.preset, bounds=options.bounds,
        simplex=options.simplex, scale=options.scale, groups=plan.groups,
        gate=options.gate, top=options.top, replay=replay, on_trial=on_batch,
    )  # fmt: skip


def finish(home: Home, plan: SearchPlan, *, mixer: Mixer = mix) -> SearchDone:
    """End a stopped or killed search with what its stored trials give evidence for, and publish that; nothing is
    scored.

    `plan` is that of `stored_plan`. `SearchError` when too little was scored; the search can be resumed then.
    """
    plan.require_current()
    began = time.perf_counter()
    options = plan.options
    result = finish_search(
        [part.name for part in plan.parts], plan.replay, method=options.merge_method(), budget=options.budget,
        seed=options.seed, workers=options.workers, optimizer=options.optimizer, preset=options.preset,
        params=options.merge_params(), groups=plan.groups,
        gate=options.gate, top=options.top,
    )  # fmt: skip
    row = begin(home, plan)
    composed = _publish(home, row.uuid, plan, result, mixer, loss_dtype=options.dtype)
    with home.write() as session:
        searches.end(session, row, status="finished", result=_outcome(result, None, composed))
    return SearchDone(row.uuid, plan, result, composed, time.perf_counter() - began)


class _Recorder:
    """Stores each batch of trials as it is scored; replayed ones are there already. Then looks whether to stop."""

    def __init__(
        self, home: Home, row: searches.Search, tell: Callable[[Progress], None] | None, stop: Callable[[], bool]
    ) -> None:
        self._home, self._row, self._tell, self._stop = home, row, tell, stop
        self._last = time.perf_counter()

    def record(self, progress: Progress) -> None:
        now = time.perf_counter()
        each, self._last = (now - self._last) / max(1, len(progress.trials)), now
        if not progress.replayed:
            with self._home.write() as session:
                searches.add_trials(
                    session,
                    self._row,
                    [
                        searches.Trial(t.number, t.kind, t.weights, t.loss, t.objective, each, t.example_losses)
                        for t in progress.trials
                    ],
                )
        if self._tell is not None:
            self._tell(progress)
        self.check()

    def check(self) -> None:
        if self._stop():
            raise KeyboardInterrupt


def _explain(scorer: Any, result: SearchResult) -> Explanation:
    """The chosen mix beside base and best single adapter, and without each of its adapters."""
    compared = {"base": (0.0,) * len(result.weights)}
    single = result.baselines.best_single if result.baselines is not None else None
    if single is not None:
        compared["best single"] = single.weights
    return explain(scorer, result.weights, compared=compared, names=result.adapter_names)


def _publish(
    home: Home, uuid: str, plan: SearchPlan, result: SearchResult, mixer: Mixer, *, loss_dtype: str
) -> Composed | None:
    """Parts with weight 0 (in all groups) are not part of the mix. Nothing is published when the base alone was best.
    Every trial is published beside it; the examples are not, only their digest. `loss_dtype` is the number format that
    the loss of `result` was scored in."""
    weights = by_adapter(result.weights, plan.groups)
    used = [(part, weight) for part, weight in zip(plan.parts, weights, strict=True) if weight != 0]
    if plan.into is None or not used:
        return None
    trials = trials_text(result.trials)
    found = {
        "id": uuid,
        "optimizer": result.optimizer,
        "preset": result.preset,
        "seed": result.seed,
        "budget": result.budget,
        "evaluations": result.evaluations,
        "workers": plan.options.workers,
        "examples_sha256": plan.examples.digest,
        "candidates": list(result.adapter_names),
        "considered": len(plan.preselection["considered"]) if plan.preselection else len(plan.parts),
        "loss": result.loss,
        "loss_dtype": loss_dtype,
        "objective": result.objective,
        "objective_name": plan.options.objective,
        "usage": plan.usage.as_dict(),
        "guard_sha256": plan.guard.digest if plan.guard else None,
        "fell_back": result.fell_back,
        "base": plan.base.facts.digest,
        "trials_sha256": digest(trials),
        "training_overlap": seen_by_adapter(plan.seen, "trained"),
        "search_overlap": seen_by_adapter(plan.seen, "searched"),
        "versions": {name: version(name) for name in ("nevergrad", "numpy", "transformers")},
    }
    if plan.groups is not None:
        found["groups"] = plan.groups.as_dict()
    method, params = plan.options.merge_method(), plan.options.merge_params()
    return mixer(
        home, [part for part, _ in used], [weight for _, weight in used], plan.into,
        options=MixOptions(method, params, base=str(plan.base.directory or "")),
        search=found, notes=plan.notes, beside={TRIALS_FILE: trials},
    )  # fmt: skip


def _outcome(
    result: SearchResult, explanation: Explanation | None, composed: Composed | None, front: Sequence[Tradeoff] = ()
) -> dict[str, Any]:
    """The result without its trials, which are stored one by one."""
    return {
        "weights": list(result.weights),
        "method": result.method,
        "params": dict(result.params),
        "groups": list(result.groups),
        "loss": result.loss,
        "objective": result.objective,
        "baselines": asdict(result.baselines) if result.baselines else None,
        "searched": list(result.searched),
        "evaluations": result.evaluations,
        "budget": result.budget,
        "seed": result.seed,
        "optimizer": result.optimizer,
        "preset": result.preset,
        "stopped": result.stopped,
        "fell_back": result.fell_back,
        "gate": asdict(result.gate) if result.gate else None,
        "notes": list(result.notes),
        "explanation": finite(asdict(explanation)) if explanation else None,
        "tradeoffs": finite([asdict(one) for one in front]),
        "published": str(composed.published.address) if composed else None,
    }
