"""A stored search as text: the same tables at the end of `mixhub search` and from `mixhub report`."""

from __future__ import annotations

from rich.console import RenderableType

from hub.cli.output import escape, table
from hub.few_shot_score import MIX, span
from hub.report.search_report import SearchReport

BAR = 30
"""Characters of the longest bar."""


def search_tables(found: SearchReport) -> list[RenderableType]:
    """What was compared, on which evidence, the weights, and what each adapter does; of a search without a result:
    how far it came."""
    if found.result is None:
        return [f"{len(found.trials)} of {found.budget} evaluations were made"]
    return [
        *candidate_lines(found),
        *held_out_lines(found),
        *weight_lines(found),
        "",
        *contribution_lines(found),
        *tradeoff_lines(found),
    ]


def candidate_lines(found: SearchReport) -> list[RenderableType]:
    """What was there and what was found on the few-shot examples, with bootstrap intervals."""
    metric, intervals = found.metric, found.intervals
    rows = []
    for name, loss in found.candidates.items():
        shown = found.found_by if name == MIX else name
        one = intervals.get(name)
        measured = (f"{metric.of(loss):.4f}", metric.span(one.low, one.high) if one else "") if metric else ()
        rows.append((shown, *measured, f"{loss:.4f}", *(() if metric else (span(one),))))
    title = "few-shot loss"
    columns: tuple[str, ...] = ("candidate", "loss", "90 % interval")
    if metric is not None:
        title = f"few-shot {metric.name}, higher is better (loss: {found.minimised})"
        columns = ("candidate", metric.title, "90 % interval", "loss")
    lines: list[RenderableType] = [table(title, columns, rows, right=columns[1:]), ""]
    if found.preset:
        lines[1:1] = ["[dim]means over the examples; the preset minimises them divided by their number[/]"]
    return lines


def held_out_lines(found: SearchReport) -> list[RenderableType]:
    """What the examples say that each candidate was not fitted to."""
    if not found.held_out:
        return []
    metric, rows = found.metric, []
    for one in found.held_out:
        name = f"{one['name']}{' (kept)' if one['name'] == found.kept else ''}{' *' if one.get('hopeful') else ''}"
        loss, low, high = (_number(one[key]) for key in ("loss", "low", "high"))
        ahead = one.get("ahead_of_base")
        interval = metric.span(low, high) if metric else f"{low:.3f} to {high:.3f}"
        measured = (f"{metric.of(loss):.4f}", interval, f"{loss:.4f}") if metric else (f"{loss:.4f}", interval)
        rows.append((name, *measured, f"{ahead:.0%}" if ahead else ""))
    columns: tuple[str, ...] = ("candidate", "loss", "90 % interval", "ahead of base")
    if metric is not None:
        columns = ("candidate", metric.title, "90 % interval", "loss", "ahead of base")
    title = f"held-out {metric.name if metric else 'loss'}, {found.folds} folds"
    lines: list[RenderableType] = [table(title, columns, rows, right=columns[1:]), ""]
    if any(one.get("hopeful") for one in found.held_out):
        lines[1:1] = ["[dim]* hopeful: its trials were asked for with all examples in view[/]"]
    return lines


def contribution_lines(found: SearchReport) -> list[RenderableType]:
    """How much the loss rises without each adapter; those that harm are marked."""
    errors, harmful, metric, without = found.gain_errors, found.harmful, found.metric, found.losses_without
    rows = [
        (
            name,
            *((f"{metric.of(without[name]):.4f}",) if metric else ()),
            f"{gain:+z.4f}",
            f"± {errors[name]:.4f}" if name in errors else "",
            "better without it" if name in harmful else "",
        )
        for name, gain in found.gains.items()
    ]
    if not rows:
        return []
    title = f"loss without the adapter, minus with it ({found.explained_by} more evaluations)"
    measured = (f"{metric.title}, without",) if metric else ()
    return [table(title, ("adapter", *measured, "gain", "error", ""), rows, right=(*measured, "gain", "error")), ""]


def tradeoff_lines(found: SearchReport) -> list[RenderableType]:
    """The Pareto front of a search with a guard: target, guard and number of adapters of the trials that no other beats
    in all three."""
    if not found.guarded or not found.tradeoffs:
        return []
    rows = [
        (f"{one['number']}{' *' if one['number'] in found.chosen_trials else ''}", _shown(one["target"]),
         _shown(one["guard"]), str(one["adapters"]))
        for one in found.tradeoffs
    ]  # fmt: skip
    columns = ("trial", "target", "guard", "adapters")
    return [table("not beaten in all three (* chosen)", columns, rows, right=columns), ""]


def weight_lines(found: SearchReport) -> list[RenderableType]:
    """Bars, or a table of adapters and groups where each adapter has several weights."""
    if not found.groups:
        return list(weight_bars(tuple(found.weights), tuple(found.weights.values())))
    used = [
        (name, *(f"{weight:+.3f}" for weight in weights))
        for name, weights in found.group_weights.items()
        if any(weights)
    ]
    lines: list[RenderableType] = [table("weights", ("adapter", *found.groups), used, right=found.groups)]
    return [*lines, *_idle(len(found.weights) - len(used))]


def weight_bars(names: tuple[str, ...], weights: tuple[float, ...]) -> list[str]:
    """One line an adapter: its name, its weight, and a bar from the middle: left for negative, right for positive.
    Those of weight 0 are only counted."""
    used = [(name, weight) for name, weight in zip(names, weights, strict=True) if weight != 0]
    widest = max((len(name) for name, _ in used), default=0)
    largest = max((abs(weight) for _, weight in used), default=0.0)
    half = BAR // 2
    lines = []
    for name, weight in sorted(used, key=lambda pair: -abs(pair[1])):
        length = round(abs(weight) / largest * half)
        left = ("█" * length).rjust(half) if weight < 0 else " " * half
        right = "█" * length if weight > 0 else ""
        colour = "red" if weight < 0 else "green"
        lines.append(f"{escape(name.ljust(widest))} {weight:+7.3f} [{colour}]{left}│{right}[/]")
    return [*lines, *_idle(len(names) - len(used))]


def _idle(count: int) -> list[str]:
    return [f"[dim]{count} adapter{'s have' if count > 1 else ' has'} weight 0[/]"] if count else []


def _number(value: float | None) -> float:
    """JSON has no infinities: None stands for them."""
    return float("inf") if value is None else value


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
