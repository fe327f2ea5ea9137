"""Search mixing weights for a new task: pin everything, score, store every trial, publish the best mix.

A plan is complete before anything is scored, and is stored with the search; so a search that was stopped or killed is
resumed from its id alone, and asks exactly the same trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

from compose.contributions import Explanation, explain
from compose.errors import SearchError
from compose.examples import Examples, examples_of, read_examples, read_labels
from compose.objective import DEFAULT_L1, LORAHUB_OBJECTIVE, default_objective
from compose.pareto import Tradeoff
from compose.search import FIT, LORAHUB, check_settings
from compose.search import finish as finish_search
from compose.search import search as search_weights
from compose.trials import Kind, Progress, SearchResult, Trial
from hub.actions.compose import Composed, MixOptions, PinnedPart, check_fit, mix, pin_parts
from hub.actions.publish import check_target
from hub.actions.search_objective import objective_of, read_source, tradeoffs_of
from hub.actions.search_on_ray import RaySetup, scorer_in_actors
from hub.address import Address, parse_address
from hub.base_lookup import FoundBase, require_base
from hub.bound_base import bound_base
from hub.errors import NotReproduced, UnknownBase
from hub.finite import finite
from hub.home import Home
from hub.read_parts import read_parts
from hub.search_usage import SearchUsage, choose_usage, stored_usage
from hub.training_overlap import overlap_notes, overlaps
from hub.trials_file import TRIALS_FILE, digest, trials_text
from storage import searches
from storage.searches import PinnedAdapter

ONE_WORKER, SEVERAL_WORKERS = "Cobyla", "OnePlusOne"
"""What nevergrad searches with, where it does and nobody says otherwise."""
LIKELIHOODS = ("loss", "choice_loss")
"""Objectives that are log-likelihoods."""


class Mixer(Protocol):
    """Makes and publishes the mix that a search has found; `mix` does so in the home."""

    def __call__(
        self, home: Home, parts: Sequence[PinnedPart], weights: Sequence[float], into: Address, *,
        options: MixOptions, search: Mapping[str, Any], notes: Sequence[str], beside: Mapping[str, str],
    ) -> Composed: ...  # fmt: skip


@dataclass(frozen=True)
class SearchOptions:
    """What decides which trials are asked. None: the default of `compose.search.search`; the method's is exact, except
    for the lorahub preset (measured: tests/benchmarks/results/bench_quality_fit_unfinished.md)."""

    budget: int = 40
    seed: int = 0
    workers: int = 1
    optimizer: str | None = None
    preset: str | None = None
    method: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    l1: float | None = None
    simplex: bool = False
    device: str = "cpu"
    objective: str = "loss"
    max_new_tokens: int | None = None
    """Of generated answers; None: the longest output of the examples."""
    guard_tolerance: float = 0.0
    """How much the guard set's mean loss may rise, in nats."""
    dtype: str = "float32"
    """Of the base while it is searched; what `auto` stands for is settled before the search is stored."""
    chunk_tokens: int | None = None
    """Tokens per forward; None: the scorer's default."""

    def resolved(self, *, guarded: bool = False) -> SearchOptions:
        """With the defaults that a stored search must keep, whatever they are by the time it is resumed.

        The fit is a model of log-likelihoods; where something else is minimised, nevergrad searches.
        """
        preset = self.preset is not None
        asked = ONE_WORKER if self.workers == 1 else SEVERAL_WORKERS
        own = FIT if self.objective in LIKELIHOODS and not guarded else asked
        return replace(
            self,
            method=self.method or (LORAHUB if preset else "exact"),
            optimizer=self.optimizer or (None if preset else own),
        )

    def merge_method(self) -> str:
        return self.resolved().method or ""

    def merge_params(self) -> dict[str, Any]:
        """The method's parameters; the lorahub preset brings its own fold."""
        return {"fold": "lorahub-compat", **self.params} if self.preset == LORAHUB else dict(self.params)


@dataclass(frozen=True)
class SearchPlan:
    parts: tuple[PinnedPart, ...]
    examples: Examples
    labels: Mapping[str, str] | None
    into: Address | None
    base: FoundBase
    options: SearchOptions
    notes: tuple[str, ...] = ()
    uuid: str | None = None
    """Set when the search exists already and is resumed."""
    replay: tuple[Trial, ...] = ()
    preselection: Mapping[str, Any] | None = None
    """How the adapters were chosen from many, and why (hub/actions/preselect.py); None: they were named."""
    usage: SearchUsage = field(default_factory=SearchUsage)
    guard: Examples | None = None
    """Rows whose mean loss must not rise above the base's."""


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

    def as_dict(self) -> dict[str, object]:
        return {
            "search": self.uuid,
            "adapters": list(self.result.adapter_names),
            **_outcome(self.result, self.explanation, self.composed),
            "training_overlap": overlaps(self.plan.parts, self.plan.examples),
            "preselection": self.plan.preselection,
            "published": self.composed.as_dict() if self.composed else None,
            "objective_name": self.plan.options.objective,
            "usage": self.plan.usage.as_dict(),
            "tradeoffs": [asdict(one) for one in self.tradeoffs],
            "trials": [asdict(trial) for trial in self.result.trials],
            "seconds": self.seconds,
        }


def new_plan(
    home: Home,
    addresses: Sequence[Address],
    examples: Path | Examples,
    *,
    labels: Path | Mapping[str, str] | None = None,
    into: Address | None = None,
    base: str = "",
    allow_unbound: bool = False,
    guard: Path | Examples | None = None,
    template: str = "",
    chat_template: str = "",
    limit: int | None = None,
    options: SearchOptions | None = None,
    names: Sequence[str] = (),
) -> SearchPlan:
    """Pin the adapters, read the examples, find the base model, and check that all of it fits together.

    The base is `base`, or the one that the adapters are bound to; `template` and `chat_template` win over the usage
    contracts of the adapters (`hub.search_usage`). `examples` may be a task of lm-evaluation-harness (.yaml), which
    brings its own prompts and, in place of the loss, its metric; `limit` takes the first rows only. `names` says what
    to call the adapters; by default as the addresses are written. Errors say which adapter, line or base is wrong.
    """
    if into is not None:
        check_target(into)
    chosen, guarded = options or SearchOptions(), guard is not None
    _check_options(chosen.resolved(guarded=guarded), names or [str(address) for address in addresses])
    source = read_source(examples, chosen.objective, chosen.max_new_tokens, limit=limit)
    chosen = replace(chosen, objective=source.objective, max_new_tokens=source.max_new_tokens).resolved(guarded=guarded)
    parts = tuple(pin_parts(home, addresses, names=names))
    notes = check_fit(parts, allow_unbound=allow_unbound)
    contracts = [(part.name, part.facts.usage) for part in parts if not source.own_prompts]
    usage, usage_notes = choose_usage(
        contracts, template=template, chat_template=chat_template, outputs=[row.output for row in source.examples]
    )
    return SearchPlan(
        parts=parts,
        examples=source.examples,
        labels=read_labels(labels) if isinstance(labels, Path) else labels,
        into=into,
        base=_base_for(home, parts, base, allow_unbound=allow_unbound),
        options=_settled(chosen),
        notes=(*notes, *usage_notes, *overlap_notes(parts, source.examples)),
        usage=replace(usage, stop=source.stop or usage.stop),
        guard=read_examples(guard) if isinstance(guard, Path) else guard,
    )


def _check_options(options: SearchOptions, names: Sequence[str]) -> None:
    """Refuse what cannot work before the search is stored. What differs from the default may load torch or nevergrad:
    the search is about to do so anyhow."""
    params, method = options.merge_params(), options.merge_method()
    if options.preset in (None, LORAHUB) and (method, options.params) not in (("lorahub", {}), ("exact", {})):
        from compose.methods import find_method

        find_method(method).resolve(params)
    check_settings(
        names, budget=options.budget, seed=options.seed, workers=options.workers, optimizer=options.optimizer,
        preset=options.preset, bounds=options.bounds, l1=options.l1, simplex=options.simplex, method=method,
        params=params,
    )  # fmt: skip
    if options.objective != "loss":
        from compose.scoring.objectives import check_objective

        check_objective(options.objective)
    if options.device != "cpu":
        from compose.device import check_device

        check_device(options.device)
    if options.chunk_tokens is not None and options.chunk_tokens < 1:
        raise SearchError(f"{options.chunk_tokens} tokens per forward", remedy="--chunk-tokens 1024")


def _settled(options: SearchOptions) -> SearchOptions:
    """With the dtype that `auto` means on this machine, so that a resumed search goes on as it began."""
    if options.dtype == "float32":
        return options
    from compose.device import scoring_dtype

    return replace(options, dtype=scoring_dtype(options.dtype, options.device))


def stored_plan(home: Home, uuid: str) -> SearchPlan:
    """The plan of a search that was stopped or killed, with its trials so far to replay."""
    with home.read() as session:
        row = searches.find(session, uuid)
        trials = searches.trials(session, row)
    config = row.config
    examples = examples_of(config["examples"])
    if examples.digest != row.examples_digest:
        raise NotReproduced(f"the stored examples of search {uuid} do not have their recorded digest")
    options = dict(config["options"])
    options["bounds"] = tuple(options["bounds"]) if options["bounds"] else None
    if not options["optimizer"] and not options["preset"]:  # a search from before `fit` was the default
        options["optimizer"] = ONE_WORKER if options["workers"] == 1 else SEVERAL_WORKERS
    addresses = [_pinned_address(adapter) for adapter in row.adapters]
    return SearchPlan(
        parts=tuple(
            pin_parts(home, addresses, names=[adapter.full_name for adapter in row.adapters], pinned_before=True)
        ),
        examples=examples,
        labels=config["labels"],
        into=parse_address(config["into"]) if config["into"] else None,
        base=_same_base(home, config["base"], config["base_digests"]),
        options=SearchOptions(**options),
        uuid=row.uuid,
        preselection=config.get("preselection"),
        usage=stored_usage(config.get("usage", {})),
        guard=examples_of(config["guard"]) if config.get("guard") else None,
        replay=tuple(
            Trial(t.number, t.weights, t.loss, t.objective, cast(Kind, t.kind), t.example_losses) for t in trials
        ),
    )


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
    `mixer` makes the mix and publishes it.
    """
    began = time.perf_counter()
    row = _start(home, plan)
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
            result = _decided_in_float32(plan.options, scorer, result)
        explanation, composed = None, None
        front: tuple[Tradeoff, ...] = ()
        if not result.stopped:
            explanation, front = _explain(scorer, result), tradeoffs_of(scorer, result)
            recorder.check()
            composed = _publish(home, row.uuid, plan, result, mixer)
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
        searches.end(session, row, status=status, result=_outcome(result, explanation, composed))
    return SearchDone(row.uuid, plan, result, composed, time.perf_counter() - began, explanation, front)


def searched(
    plan: SearchPlan, scorer: Any, *, replay: Sequence[Trial] = (), on_batch: Callable[[Progress], None] | None = None
) -> SearchResult:
    """The search that `plan` describes, nothing stored."""
    options = plan.options
    return search_weights(
        [part.name for part in plan.parts], scorer, budget=options.budget, seed=options.seed,
        workers=options.workers, optimizer=options.optimizer, preset=options.preset, bounds=options.bounds,
        l1=options.l1, simplex=options.simplex, replay=replay, on_trial=on_batch,
    )  # fmt: skip


def finish(home: Home, plan: SearchPlan, *, mixer: Mixer = mix) -> SearchDone:
    """End a stopped or killed search with the best of its stored trials, and publish that; nothing is scored.

    `plan` is that of `stored_plan`. `SearchError` when too little was scored; the search can be resumed then.
    """
    began = time.perf_counter()
    options = plan.options
    result = finish_search(
        [part.name for part in plan.parts], plan.replay, method=options.merge_method(), budget=options.budget,
        seed=options.seed, workers=options.workers, optimizer=options.optimizer, preset=options.preset,
    )  # fmt: skip
    row = _start(home, plan)
    composed = _publish(home, row.uuid, plan, result, mixer)
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


def _start(home: Home, plan: SearchPlan) -> searches.Search:
    with home.write() as session:
        if plan.uuid is not None:
            return searches.resume(session, searches.find(session, plan.uuid))
        return searches.start(
            session,
            adapters=[
                PinnedAdapter(p.name, p.pinned.repo.uuid, p.pinned.revision.commit_id, p.pinned.folder)
                for p in plan.parts
            ],
            config={
                "options": asdict(plan.options),
                "into": str(plan.into) if plan.into else None,
                "base": plan.base.name,
                "base_digests": _digests(plan.base),
                "examples": [asdict(example) for example in plan.examples.rows],
                "labels": dict(plan.labels) if plan.labels else None,
                "preselection": plan.preselection,
                "usage": plan.usage.as_dict(),
                "guard": [asdict(example) for example in plan.guard.rows] if plan.guard else None,
            },
            examples_digest=plan.examples.digest,
        )


def scorer_of(plan: SearchPlan, ray: RaySetup | None = None, held: ExitStack | None = None) -> Any:
    """The scorer of `plan`, in this process or in Ray actors that live until `held` is closed."""
    return _scorer(plan) if ray is None or held is None else _scorer_on_ray(plan, ray, held)


def _scorer(plan: SearchPlan) -> Any:
    from compose.scoring.loading import load_base, make_scorer

    base = load_base(_base_folder(plan), dtype=plan.options.dtype, device=plan.options.device)
    make = partial(make_scorer, base, **_mixing(plan))
    return objective_of(plan, make, kind=base.kind, tokenizer=base.tokenizer)


def _scorer_on_ray(plan: SearchPlan, ray: RaySetup, held: ExitStack) -> Any:
    return scorer_in_actors(plan, _base_folder(plan), ray, held, _mixing(plan))


def _base_folder(plan: SearchPlan) -> Path:
    if plan.base.directory is None:
        raise UnknownBase(
            f"the files of the base model {plan.base.name} are not on this machine", remedy="--base FOLDER"
        )
    return plan.base.directory


def _mixing(plan: SearchPlan) -> dict[str, Any]:
    """What every scorer of this plan is made with, whatever its rows."""
    from compose.base_weights import BaseWeights

    return {
        "adapters": read_parts(plan.parts, BaseWeights(_base_folder(plan))),
        "method": plan.options.merge_method(),
        "params": plan.options.merge_params(),
        "max_new_tokens": plan.options.max_new_tokens,
        "token_budget": plan.options.chunk_tokens,
    }


def _decided_in_float32(options: SearchOptions, fine: Any, result: SearchResult) -> SearchResult:
    from compose.finalists import rescored

    objective = (
        LORAHUB_OBJECTIVE if options.preset else default_objective(DEFAULT_L1 if options.l1 is None else options.l1)
    )
    return rescored(result, fine, objective, coarse=options.dtype)


def _explain(scorer: Any, result: SearchResult) -> Explanation:
    """The chosen mix beside base and best single adapter, and without each of its adapters."""
    compared = {"base": (0.0,) * len(result.adapter_names)}
    if result.baselines is not None:
        compared["best single"] = result.baselines.best_single.weights
    return explain(scorer, result.weights, compared=compared)


def _publish(home: Home, uuid: str, plan: SearchPlan, result: SearchResult, mixer: Mixer) -> Composed | None:
    """Parts with weight 0 are not part of the mix. Nothing is published when the base alone was best. Every trial is
    published beside it; the examples are not, only their digest."""
    used = [(part, weight) for part, weight in zip(plan.parts, result.weights, strict=True) if weight != 0]
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
        "objective": result.objective,
        "objective_name": plan.options.objective,
        "usage": plan.usage.as_dict(),
        "guard_sha256": plan.guard.digest if plan.guard else None,
        "fell_back": result.fell_back,
        "base": plan.base.facts.digest,
        "trials_sha256": digest(trials),
        "training_overlap": overlaps(plan.parts, plan.examples),
        "versions": {name: version(name) for name in ("nevergrad", "numpy", "transformers")},
    }
    return mixer(
        home, [part for part, _ in used], [weight for _, weight in used], plan.into,
        options=MixOptions(
            plan.options.merge_method(), plan.options.merge_params(), base=str(plan.base.directory or "")
        ),
        search=found, notes=plan.notes, beside={TRIALS_FILE: trials},
    )  # fmt: skip


def _base_for(home: Home, parts: Sequence[PinnedPart], given: str, *, allow_unbound: bool) -> FoundBase:
    """The base to score on: the given one if it is that of the adapters, else the one that they are bound to."""
    bound = {part.facts.base_identity for part in parts} - {None}
    if given:
        found = require_base(home, given)
        if bound and bound != {found.identity(home)} and not allow_unbound:
            raise UnknownBase(
                f"the adapters are bound to the base {str(next(iter(bound)))[:12]}, {given} is another one",
                remedy="give the base that they were trained on, or --allow-unbound",
            )
        return found
    if not bound:
        raise UnknownBase("the base model of these adapters is not known here", remedy="--base PATH_OR_NAME")
    if len(bound) > 1:
        raise UnknownBase("these adapters are bound to different base models", remedy="say which: --base PATH_OR_NAME")
    return bound_base(home, str(bound.pop()), option="--base FOLDER")


def _same_base(home: Home, name: str, digests: Sequence[str | None]) -> FoundBase:
    """The base of a stored search; `UnknownBase` if another model is found under its name by now."""
    found = require_base(home, name)
    if _digests(found) != list(digests):
        raise UnknownBase(
            f"the base model {name} is not the one that the search began with", remedy="put that model back"
        )
    return found


def _digests(base: FoundBase) -> list[str | None]:
    return [base.facts.digest, base.facts.tensors_digest]


def _pinned_address(adapter: PinnedAdapter) -> Address:
    address = parse_address(adapter.full_name)
    return Address(address.namespace, address.repo, adapter.folder, adapter.commit_id)


def _outcome(result: SearchResult, explanation: Explanation | None, composed: Composed | None) -> dict[str, Any]:
    """The result without its trials, which are stored one by one."""
    return {
        "weights": list(result.weights),
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
        "published": str(composed.published.address) if composed else None,
    }
