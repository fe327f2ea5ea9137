"""A search in a coarse number format ends in float32: its best trials and its baselines are scored again. Without
held-out estimates they are chosen among by what they are then; what such estimates chose, in the coarse format, stays,
as in the default search, since they are of fits without some of the examples and not of points. How far the two formats
agree on the ranking is measured on the way and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .objective import Objective
from .scoring.protocol import Scorer
from .trials import Baselines, SearchResult, Trial, rows_of

FINALISTS = 5
"""Trials that are scored again beside the baselines."""

Floats = NDArray[np.float64]


def rescored(result: SearchResult, scorer: Scorer, objective: Objective, *, coarse: str) -> SearchResult:
    """`result` of a search whose losses are of the format `coarse`, with those of `scorer`.

    Its trials stay as they were scored; losses and objectives of the choice and of the baselines are `scorer`'s. Where
    held-out examples decided (`gate`, as in the default search), and with the lorahub preset, which has no baselines,
    the choice stays. Elsewhere, and where the gate kept a mix with a hopeful estimate, which was chosen by its losses,
    `scorer`'s losses decide, and the choice is never worse than a baseline.
    """
    if not result.trials:
        return result
    trials = _finalists(result)
    rows = rows_of(trials)
    losses = objective.reduce(scorer.example_losses(rows), scorer.token_counts)
    losses = np.where(np.isnan(losses), np.inf, losses)
    objectives = losses + objective.penalties(rows, len(scorer.token_counts))
    fine = {
        t.weights: replace(t, loss=float(loss), objective=float(value))
        for t, loss, value in zip(trials, losses, objectives, strict=True)
    }
    baselines = _again(result.baselines, fine)
    stays = baselines is None or (result.gate is not None and not result.gate.kept_is_hopeful)
    chosen = fine[result.weights] if baselines is None or stays else _choice(list(fine.values()), baselines)
    agreement = spearman(np.array([trial.objective for trial in trials]), objectives)
    use = f"for the losses that are shown; the choice is by those in {coarse}" if stays else "which decided"
    notes = (
        f"Searched in {coarse}; the {len(fine)} best points were scored again in float32, {use}. The ranks of "
        f"the two agree with {agreement:.2f} (Spearman; 1 is the same order). "
        f"Losses on held-out examples and all intervals are in {coarse}, the few-shot losses in float32.",
    )
    return replace(
        result,
        weights=chosen.weights,
        loss=chosen.loss,
        objective=chosen.objective,
        baselines=baselines,
        fell_back=result.fell_back if stays else _baseline_name(chosen, result),
        notes=(*result.notes, *notes),
    )


def spearman(one: Floats, other: Floats) -> float:
    """Rank correlation of two lists of numbers; 1 where there is nothing to rank, which scipy has no number for."""
    from scipy.stats import spearmanr

    if min(len(np.unique(one)), len(np.unique(other))) < 2:
        return 1.0
    return float(spearmanr(one, other).statistic)


def _chosen(result: SearchResult) -> Trial:
    return next(trial for trial in result.trials if trial.weights == result.weights)


def _finalists(result: SearchResult) -> list[Trial]:
    """The choice, the best trials of its kind, and the baselines; each weight row once."""
    chosen = _chosen(result)
    rivals = [trial for trial in result.trials if trial.kind == chosen.kind]
    found = [chosen, *sorted(rivals, key=lambda trial: (trial.objective, trial.number))]
    unique = list({trial.weights: trial for trial in found}.values())[:FINALISTS]
    if result.baselines is not None:
        baselines = result.baselines
        unique += [baselines.base, baselines.uniform, baselines.best_single]
    return list({trial.weights: trial for trial in unique}.values())


def _again(baselines: Baselines | None, fine: dict[tuple[float, ...], Trial]) -> Baselines | None:
    if baselines is None:
        return None
    return replace(
        baselines,
        base=fine[baselines.base.weights],
        uniform=fine[baselines.uniform.weights],
        best_single=fine[baselines.best_single.weights],
    )


def _choice(finalists: Sequence[Trial], baselines: Baselines) -> Trial:
    allowed = [trial for trial in finalists if trial.loss <= baselines.lowest_loss]
    return min(allowed, key=lambda trial: (trial.objective, trial.number))


def _baseline_name(chosen: Trial, result: SearchResult) -> str | None:
    if chosen.kind == "single":
        return result.adapter_names[chosen.weights.index(1.0) // max(1, len(result.groups))]
    return chosen.kind if chosen.kind in ("base", "uniform", "top") else None
