"""Search the weights of a mix without gradients: score, ask, tell, and never return less than what was there before.

Default search (`fitted_run.py`): base (w = 0), uniform (1/N each) and every single adapter (w = 1) are scored in one
batch; weights are fitted to what these score on each example, scored, corrected and fitted again; the mix is kept when
it is ahead of base, best single and the uniform mix of the best on examples that it was not fitted to (`gate.py`).

With a nevergrad optimizer's name (`nevergrad_run.py`) the search goes on from the best of the baselines; the point
returned is the best of all that were scored, among those whose loss is not above that of base, best single and uniform.
An optimizer's own recommendation is not used: with some of them it is worse than the best point.

`preset="lorahub"` is the reference's search (arXiv 2307.13269 and its code): NGOpt from 0 within +-1.5, one evaluation
at a time, and the point that nevergrad recommends.

    result = search(["a", "b", "c"], scorer, budget=40)
    merged = merge(adapters, result.weights)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from .adam_run import AdamRun, Differentiable
from .baselines import check_budget
from .errors import SearchError
from .fitted_run import STRENGTH, FittedRun
from .judged_run import JudgedRun
from .lorahub_preset import PresetRun
from .mixed_settings import ONE_AT_A_TIME, check_methods, check_scorable, mixed_optimizer
from .nevergrad_run import NevergradRun
from .objective import DEFAULT_L1, LORAHUB_OBJECTIVE, Objective, default_objective, mean_over_examples
from .trials import Ledger, Progress, SearchResult, Trial

if TYPE_CHECKING:
    from .adapter import LoraAdapter
    from .method_space import MethodSpace
    from .methods.params import Value
    from .scoring.protocol import Scorer

DEFAULT_BUDGET = 40
FIT, ADAM = "fit", "adam"
OWN = (None, FIT, ADAM)
"""Optimizers that are not nevergrad's. (Its registry has an Adam too, under other names.)"""
FIT_BOUNDS = (0.0, 1.5)
NEVERGRAD_BOUNDS = (-1.5, 1.5)
LORAHUB = "lorahub"


def search(
    adapters: Sequence[LoraAdapter | str],
    scorer: Scorer,
    *,
    budget: int = DEFAULT_BUDGET,
    seed: int = 0,
    workers: int = 1,
    optimizer: str | None = None,
    preset: str | None = None,
    bounds: tuple[float, float] | None = None,
    l1: float | None = None,
    simplex: bool = False,
    methods: MethodSpace | None = None,
    replay: Sequence[Trial] = (),
    on_trial: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Search weights for `adapters` (or their names, in the scorer's order) within `budget` evaluations.

    optimizer  fit (the default), adam (for scorers that can run backward), or a name from nevergrad's registry.
    workers    points that a nevergrad optimizer is asked for at a time, scored as one batch.
    bounds     of every weight: by default 0 to 1.5 for fit and adam, -1.5 to 1.5 for the others.
    l1         multiplies mean |w|: by default 0 for fit and adam, which have a prior of their own, 0.05 for the others.
    simplex    weights are not negative and add up to 1; for fit.
    methods    search the merge method as well, by nevergrad; the scorer must have been made with the same methods.
    replay     trials of an earlier run with the same settings: their losses are taken instead of scored again.
    on_trial   is called after every batch.

    Ctrl-C returns what was found so far with `stopped=True`. Errors: `SearchError`, also when `replay` does not fit.
    """
    names = tuple(one if isinstance(one, str) else one.name for one in adapters)
    check_settings(
        names, budget=budget, seed=seed, workers=workers, optimizer=optimizer, preset=preset, bounds=bounds, l1=l1,
        simplex=simplex, method=scorer.method, params=scorer.method_params, methods=methods,
    )  # fmt: skip
    optimizer = mixed_optimizer(optimizer, methods, workers=workers)
    if names != tuple(scorer.adapter_names):
        raise SearchError(
            f"the scorer mixes {', '.join(scorer.adapter_names)}, the search was asked for {', '.join(names)}",
            remedy="make the scorer from the same adapters, in the same order",
        )
    objective = _objective_of(optimizer, preset=preset, l1=l1)
    ledger = Ledger(scorer, objective, budget=budget, replay=replay, on_trial=on_trial, methods=methods)
    run = _run_of(
        names, ledger, seed=seed, workers=workers, optimizer=optimizer, preset=preset, bounds=bounds,
        simplex=simplex, scorer=scorer, methods=methods,
    )  # fmt: skip
    stopped = False
    try:
        run.run()
        ledger.check_used_up()
    except KeyboardInterrupt:
        if not ledger.trials:
            raise
        stopped = True
    way = scorer.method, scorer.method_params
    return _result(names, ledger, run, seed=seed, preset=preset, way=way, stopped=stopped)


def finish(
    names: Sequence[str],
    trials: Sequence[Trial],
    *,
    method: str,
    budget: int,
    seed: int = 0,
    workers: int = 1,
    optimizer: str | None = None,
    preset: str | None = None,
    params: Mapping[str, object] | None = None,
    methods: MethodSpace | None = None,
) -> SearchResult:
    """The best of the stored `trials` of a search that was stopped, chosen as `search` does, and nothing is scored.

    `SearchError` when there is not even what a mix is compared with.
    """
    ledger = Ledger(None, default_objective(DEFAULT_L1), budget=budget, replay=trials, on_trial=None, methods=methods)
    ledger.adopt_stored()
    listed = tuple(names)
    asked = mixed_optimizer(optimizer, methods, workers=workers)
    run = _run_of(
        listed, ledger, seed=seed, workers=workers, optimizer=asked, preset=preset,
        bounds=None, simplex=False, scorer=None, methods=methods,
    )  # fmt: skip
    run.run_no_further()
    run.notes.append(f"The search was finished early, after {len(trials)} of {budget} evaluations.")
    return _result(listed, ledger, run, seed=seed, preset=preset, way=(method, params or {}), stopped=False)


Run = PresetRun | JudgedRun


def _objective_of(optimizer: str | None, *, preset: str | None, l1: float | None) -> Objective:
    if preset:
        return LORAHUB_OBJECTIVE
    if optimizer in OWN:
        return Objective(mean_over_examples, l1=l1 or 0.0, prior=STRENGTH)
    return default_objective(DEFAULT_L1 if l1 is None else l1)


def _run_of(
    names: tuple[str, ...],
    ledger: Ledger,
    *,
    seed: int,
    workers: int,
    optimizer: str | None,
    preset: str | None,
    bounds: tuple[float, float] | None,
    simplex: bool,
    scorer: Scorer | None,
    methods: MethodSpace | None,
) -> Run:
    if preset:
        return PresetRun(names, ledger, seed=seed)
    if methods is not None:
        from .mixed_run import MixedRun

        return MixedRun(
            names, ledger, methods, seed=seed, workers=workers, optimizer=optimizer or ONE_AT_A_TIME,
            bounds=bounds or NEVERGRAD_BOUNDS,
        )  # fmt: skip
    if optimizer in (None, FIT):
        return FittedRun(names, ledger, seed=seed, bounds=bounds or FIT_BOUNDS, simplex=simplex)
    if optimizer == ADAM:
        return AdamRun(names, ledger, _differentiable(scorer), seed=seed, bounds=bounds or FIT_BOUNDS)
    return NevergradRun(
        names, ledger, seed=seed, workers=workers, optimizer=optimizer, bounds=bounds or NEVERGRAD_BOUNDS
    )


def _differentiable(scorer: Scorer | None) -> Differentiable | None:
    """The scorer, if it can run backward. None: only stored trials are looked at."""
    if scorer is not None and not hasattr(scorer, "losses_and_gradients"):
        raise SearchError(f"{type(scorer).__name__} cannot run backward", remedy=f"use --optimizer {FIT}")
    return cast("Differentiable | None", scorer)


def _result(
    names: tuple[str, ...],
    ledger: Ledger,
    run: Run,
    *,
    seed: int,
    preset: str | None,
    way: tuple[str, Mapping[str, object]],
    stopped: bool,
) -> SearchResult:
    chosen = run.choose()
    method, params = way if chosen.method is None else (chosen.method, chosen.params or {})
    fell_back = run.fell_back(chosen)
    return SearchResult(
        adapter_names=names,
        weights=chosen.weights,
        loss=chosen.loss,
        objective=chosen.objective,
        trials=tuple(ledger.trials),
        baselines=run.baselines,
        searched=run.searched,
        evaluations=len(ledger.trials),
        budget=ledger.budget,
        seed=seed,
        optimizer=run.optimizer,
        preset=preset,
        stopped=stopped,
        fell_back=fell_back,
        gate=run.gate,
        notes=(*run.notes, *_notes_on(chosen, method, fell_back=fell_back, searched=len(run.searched))),
        method=method,
        params=cast("Mapping[str, Value]", dict(params)),
    )


def _notes_on(chosen: Trial, method: str, *, fell_back: str | None, searched: int) -> list[str]:
    notes = []
    examples = len(chosen.example_losses or ())
    if 0 < examples < searched:
        notes.append(
            f"There are fewer examples ({examples}) than weights ({searched}), so that the few-shot loss says little. "
            "More examples, or fewer adapters, would tell more."
        )
    if fell_back:
        notes.append(f"No mix was better than {fell_back} on these examples, so {fell_back} was kept.")
    if method == "lorahub" and min(chosen.weights) < 0:
        notes.append(
            "Negative weights: an element-wise mix is quadratic in its weights, f(w) = f(-w), so one negative weight "
            "does not subtract its adapter; only the signs relative to each other count. --method exact subtracts."
        )
    return notes


def check_settings(
    names: Sequence[str],
    *,
    budget: int,
    seed: int,
    workers: int,
    optimizer: str | None,
    preset: str | None,
    bounds: tuple[float, float] | None,
    l1: float | None,
    simplex: bool = False,
    method: str,
    params: Mapping[str, object],
    methods: MethodSpace | None = None,
) -> None:
    """`SearchError` for settings that no search can have, before anything is loaded; nevergrad is, if named."""
    if methods is not None:
        check_methods(methods.names, weights_only=optimizer in (FIT, ADAM), preset=preset, simplex=simplex)
        optimizer = mixed_optimizer(optimizer, methods, workers=workers)
    check_scorable(methods.names if methods else [method], len(names), _bounds_of(bounds, optimizer))
    if not names:
        raise SearchError("there is no adapter to search", remedy="name at least one adapter")
    if budget < 1 or workers < 1:
        raise SearchError(f"budget {budget} and workers {workers} must be at least 1")
    if not 0 <= seed < 2**32:
        raise SearchError(f"the seed {seed} is not between 0 and 2**32 - 1")
    if bounds is not None and not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise SearchError(f"the bounds {bounds} are not a lower and an upper finite number")
    if l1 is not None and not 0 <= l1 < np.inf:
        raise SearchError(f"l1 is {l1}, it must be 0 or a positive number")
    if simplex and (preset is not None or optimizer not in (None, FIT)):
        raise SearchError("only the fit searches the simplex", remedy=f"--optimizer {FIT}, or leave --simplex out")
    if simplex and bounds is not None and not (bounds[0] <= 0 and bounds[1] * len(names) >= 1):
        raise SearchError(f"no weights within {bounds} are 0 or more and add up to 1", remedy="leave --bounds out")
    if preset is None:
        check_budget(budget, len(names))
        if optimizer not in OWN:
            from .nevergrad_search import check_optimizer

            check_optimizer(optimizer, workers=workers)
    else:
        _check_preset(preset, workers=workers, others=(optimizer, bounds, l1), method=method, params=params)


def _bounds_of(bounds: tuple[float, float] | None, optimizer: str | None) -> tuple[float, float]:
    return bounds or (FIT_BOUNDS if optimizer in OWN else NEVERGRAD_BOUNDS)


def _check_preset(
    preset: str, *, workers: int, others: tuple[object, ...], method: str, params: Mapping[str, object]
) -> None:
    if preset != LORAHUB:
        raise SearchError(f"there is no preset {preset!r}", remedy=f"use {LORAHUB}")
    if workers != 1 or any(other is not None for other in others):
        raise SearchError(
            f"the preset {LORAHUB} fixes optimizer, workers, bounds and l1", remedy="leave them out, or the preset"
        )
    if (method, params.get("fold")) != ("lorahub", "lorahub-compat"):
        raise SearchError(
            f"the preset {LORAHUB} needs a scorer of the method lorahub with the fold lorahub-compat, this one has "
            f"{method} with {dict(params)}",
            remedy="--method lorahub --fold lorahub-compat",
        )
