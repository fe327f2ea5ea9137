"""Search the weights of a mix without gradients: score, ask, tell, and never return less than what was there before.

Default search (`fitted_run.py`): base (w = 0), uniform (1/N each) and every single adapter (w = 1) are scored in one
batch; weights are fitted to what these score on each example, scored, corrected and fitted again; the mix is kept when
it is ahead of base, best single and the uniform mix of the best on examples that it was not fitted to (`gate.py`).

With a nevergrad optimizer's name (`nevergrad_run.py`) the search goes on from the best of the baselines; the mix is the
best of all that were asked for, among those whose loss is not above that of base, best single and uniform, and is kept
when it is ahead of what was there by more than a search of so many weights finds by chance (`gate.py`).
An optimizer's own recommendation is not used: with some of them it is worse than the best point.

`preset="lorahub"` is the reference's search (arXiv 2307.13269 and its code): NGOpt from 0 within +-1.5, one evaluation
at a time, and the point that nevergrad recommends.

    result = search(["a", "b", "c"], scorer, budget=40)
    merged = merge(adapters, result.weights)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from .adam_run import AdamRun, Differentiable
from .errors import SearchError
from .fitted_run import FittedRun
from .gate import Gate
from .grouped_fit import GroupedFit
from .judged_run import JudgedRun
from .lorahub_preset import PresetRun
from .module_groups import ModuleGroups, column_names
from .nevergrad_run import NevergradRun
from .objective import LORAHUB_OBJECTIVE, Objective, default_objective, mean_over_examples
from .prior import Prior
from .search_settings import ADAM, FIT, OWN, check_settings, limits_of
from .space import Space
from .top_mix import TOP
from .trials import Ledger, Progress, SearchResult, Trial

if TYPE_CHECKING:
    from .adapter import LoraAdapter
    from .methods.params import Value
    from .scoring.protocol import Scorer

DEFAULT_BUDGET = 40
DESCENT_STRENGTH = 2.0
"""Of the prior in what adam minimises, and Cobyla where it takes over from the fit. With the bold mix's own prior,
whose sum is larger, adam had 64.7 in place of 68.8 % on the demo (draws 5 to 8)."""


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
    simplex: bool = False,
    scale: tuple[float, float] | None = None,
    groups: ModuleGroups | None = None,
    gate: bool = True,
    top: int = TOP,
    replay: Sequence[Trial] = (),
    on_trial: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Search weights for `adapters` (or their names, in the scorer's order) within `budget` evaluations.

    optimizer  fit (the default), adam (for scorers that can run backward), or a name from nevergrad's registry.
    workers    points that a nevergrad optimizer is asked for at a time, scored as one batch.
    bounds     of every weight: by default 0 to 1.5 for fit and adam, -1.5 to 1.5 for the others.
    simplex    weights are not negative and add up to 1, in every group. What a nevergrad optimizer or adam asks for is
               scored at the nearest such point.
    scale      with `simplex`: they add up to a number between these two instead, which the search chooses.
    groups     a weight for each group of modules of each adapter, for fit and adam; the scorer must have been made with
               the same groups. Base, uniform and the single adapters are still whole ones.
    gate       False: the few-shot loss decides; for adam and nevergrad's optimizers.
    top        adapters in the uniform mix of the best that is scored as well, by adam and nevergrad's; 0: none.
    replay     trials of an earlier run with the same settings: their losses are taken instead of scored again.
    on_trial   is called after every batch.

    Ctrl-C returns what was found so far with `stopped=True`. Errors: `SearchError`, also when `replay` does not fit.
    """
    names = tuple(one if isinstance(one, str) else one.name for one in adapters)
    check_settings(
        names, budget=budget, seed=seed, workers=workers, optimizer=optimizer, preset=preset, bounds=bounds,
        simplex=simplex, scale=scale, groups=len(groups) if groups else None, gate=gate, top=top,
        method=scorer.method, params=scorer.method_params,
    )  # fmt: skip
    columns = column_names(names, groups)
    if columns != tuple(scorer.adapter_names):
        raise SearchError(
            f"the scorer mixes {', '.join(scorer.adapter_names)}, the search was asked for {', '.join(columns)}",
            remedy="make the scorer from the same adapters and groups, in the same order",
        )
    objective = _objective_of(optimizer, preset=preset, groups=len(groups) if groups else 1)
    ledger = Ledger(scorer, objective, budget=budget, replay=replay, on_trial=on_trial)
    run = _run_of(
        names, ledger, seed=seed, workers=workers, optimizer=optimizer, preset=preset, bounds=bounds,
        simplex=simplex, scale=scale, gate=gate, top=top, scorer=scorer, groups=groups,
    )  # fmt: skip
    stopped = False
    try:
        run.run()
        ledger.check_used_up()
    except KeyboardInterrupt:
        if not ledger.trials:
            raise
        stopped = True
        run.judge_stored()
    way = scorer.method, scorer.method_params
    return _result(
        names, ledger, run, seed=seed, preset=preset, way=way, stopped=stopped, groups=groups,
        bounds=bounds,
    )  # fmt: skip


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
    groups: ModuleGroups | None = None,
    gate: bool = True,
    top: int = TOP,
) -> SearchResult:
    """The best of the stored `trials` of a search that was stopped, judged by choosing again among them (`gate.py`), as
    after Ctrl-C; nothing is scored.

    `SearchError` when there is not even what a mix is compared with.
    """
    ledger = Ledger(None, default_objective(), budget=budget, replay=trials, on_trial=None)
    ledger.adopt_stored()
    listed = tuple(names)
    run = _run_of(
        listed, ledger, seed=seed, workers=workers, optimizer=optimizer, preset=preset, bounds=None, simplex=False,
        scale=None, gate=gate, top=top, scorer=None, groups=groups,
    )  # fmt: skip
    run.run_no_further()
    run.notes.append(f"The search was finished early, after {len(trials)} of {budget} evaluations.")
    way = method, params or {}
    return _result(
        listed, ledger, run, seed=seed, preset=preset, way=way, stopped=False, groups=groups,
        bounds=None,
    )  # fmt: skip


Run = PresetRun | JudgedRun


def _objective_of(optimizer: str | None, *, preset: str | None, groups: int) -> Objective:
    if preset:
        return LORAHUB_OBJECTIVE
    if optimizer in OWN:
        return Objective(mean_over_examples, l1=0.0, prior=Prior(DESCENT_STRENGTH, groups))
    return default_objective()


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
    scale: tuple[float, float] | None,
    gate: bool,
    top: int,
    scorer: Scorer | None,
    groups: ModuleGroups | None,
) -> Run:
    if preset:
        return PresetRun(names, ledger, seed=seed, gated=gate)
    within = limits_of(bounds, optimizer, simplex=simplex)
    space = Space(len(names), within, simplex, len(groups) if groups else 1, scale or (1.0, 1.0))
    if optimizer in (None, FIT):
        return (GroupedFit if space.groups > 1 else FittedRun)(names, ledger, seed=seed, space=space)
    if optimizer == ADAM:
        return AdamRun(names, ledger, _differentiable(scorer), seed=seed, space=space, gated=gate, top=top)
    return NevergradRun(
        names, ledger, seed=seed, workers=workers, optimizer=optimizer, space=space, gated=gate, top=top
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
    groups: ModuleGroups | None,
    bounds: tuple[float, float] | None,
) -> SearchResult:
    chosen = run.choose()
    method, params = way
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
        notes=(
            *run.notes,
            *_notes_on(chosen, method, run.gate, fell_back, searched=len(run.searched) * max(1, len(groups or ()))),
            *_outside(chosen, bounds, fell_back),
        ),
        groups=groups.names if groups else (),
        method=method,
        params=cast("Mapping[str, Value]", dict(params)),
    )


def _outside(chosen: Trial, bounds: tuple[float, float] | None, fell_back: str | None) -> list[str]:
    """What a mix is compared with is not searched, so that no bounds hold for it."""
    if bounds is None or fell_back in (None, "base") or all(bounds[0] <= w <= bounds[1] for w in chosen.weights):
        return []
    return [
        f"Weights of {fell_back} lie outside the bounds {bounds[0]:g} to {bounds[1]:g}, which are for searched mixes."
    ]


def _notes_on(chosen: Trial, method: str, gate: Gate | None, fell_back: str | None, searched: int) -> list[str]:
    notes = []
    examples = len(chosen.example_losses or ())
    if 0 < examples < searched:
        notes.append(
            f"There are fewer examples ({examples}) than weights ({searched}), so that the few-shot loss says little. "
            "More examples, or fewer adapters, would tell more."
        )
    better = gate.better_than_kept if gate else None
    if fell_back and better:
        notes.append(
            f"{better.capitalize()} had a lower loss than {fell_back}, but not by more than chance allows for."
        )
    elif fell_back:
        notes.append(f"No mix was better than {fell_back} on these examples, so {fell_back} was kept.")
    if method == "lorahub" and min(chosen.weights) < 0:
        notes.append(
            "Negative weights: an element-wise mix is quadratic in its weights, f(w) = f(-w), so one negative weight "
            "does not subtract its adapter; only the signs relative to each other count. --method exact subtracts."
        )
    return notes
