"""What a person sees of a search: a live line while it runs, then a table, the weights as bars, and the notes."""

from __future__ import annotations

from types import TracebackType

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compose.contributions import Explanation
from compose.trials import Progress as Batch
from compose.trials import SearchResult
from hub.actions.search import SearchDone
from hub.actions.search_plan import SearchPlan
from hub.cli.method_table import method_lines
from hub.cli.output import Output, escape, table
from hub.few_shot_score import MIX, span

BAR = 30
"""Characters of the longest bar."""


class SearchProgress:
    """A rich bar on stderr with the current best; silent with `--json` or when stderr is not a terminal."""

    def __init__(self, out: Output, budget: int) -> None:
        self._bar = Progress(
            TextColumn("searching"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeRemainingColumn(),
            console=out.stderr,
            disable=out.as_json or not out.stderr.is_terminal,
            transient=True,
        )
        self._out = out
        self.uuid: str | None = None
        """The search's id, once it has one."""
        self._task = self._bar.add_task("search", total=budget, best="loading the base and the adapters")

    def __enter__(self) -> SearchProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def tell_id(self, uuid: str) -> None:
        self.uuid = uuid
        self._out.say(f"search {uuid[:12]}; if it is interrupted: mixhub search --resume {uuid[:12]}")

    def update(self, batch: Batch) -> None:
        best = f"best objective {batch.best.objective:.4f} ({batch.best.kind} {batch.best.number})"
        self._bar.update(self._task, completed=batch.evaluations, total=max(batch.budget, batch.evaluations), best=best)


def report(out: Output, done: SearchDone) -> None:
    """Baselines against the result, the weights, and where the mix was published."""
    result = done.result
    for note in (*done.plan.notes, *result.notes):
        out.warn(note)
    columns = ("candidate", "loss", "90 % interval")
    text: list[RenderableType] = [
        table(measured(done), columns, compared(done), right=columns[1:]),
        *(
            ["[dim]the intervals are of the mean over the examples, which the preset divides by their number[/]"]
            if result.preset
            else []
        ),
        "",
        *held_out(result),
        *method_lines(done.mixed_by, done.methods),
        *weight_lines(result),
        "",
        *contribution_lines(done.explanation),
        f"[dim]{result.evaluations} evaluations, {len(result.searched)} of {len(result.adapter_names)} adapters "
        f"searched, {result.optimizer}, seed {result.seed}, {done.seconds:.1f} s, search {done.uuid[:12]}[/]",
    ]
    if done.plan.guard is not None:
        text.append(tradeoff_table(done))
    if done.composed is not None:
        published = done.composed.published
        text.append(f"{done.composed.verb} {published.address}  [dim]{published.commit_id[:12]}[/]")
    out.result(done.as_dict(), *text)
    if result.stopped:
        tell_how_to_go_on(out, done.uuid, done.plan, found=True)
    elif done.plan.into is not None and done.composed is None:
        out.say("nothing was published: on these examples the base model alone is best")


def measured(done: SearchDone) -> str:
    """What the losses are."""
    name = done.plan.options.objective
    return "few-shot loss" if name in ("loss", "choice_loss") else f"1 - {name}, the loss breaks ties"


def tradeoff_table(done: SearchDone) -> RenderableType:
    """The Pareto front: target, guard and number of adapters of the trials that no other beats in all three."""
    rows = [
        (
            f"{one.number}{' *' if done.result.is_chosen(done.result.trials[one.number - 1]) else ''}",
            f"{one.target:.4f}",
            "" if one.guard is None else f"{one.guard:.4f}",
            str(one.adapters),
        )
        for one in done.tradeoffs
    ]
    columns = ("trial", "target", "guard", "adapters")
    return table("not beaten in all three (* chosen)", columns, rows, right=columns)


def tell_how_to_go_on(out: Output, uuid: str, plan: SearchPlan, *, found: bool) -> None:
    """The next command after Ctrl-C; two of them where trials were `found` stored."""
    out.say(f"stopped; continue with: mixhub search --resume {uuid[:12]}")
    if found:
        what = "publish" if plan.into else "settle on"
        out.say(f"or {what} the best so far: mixhub search --resume {uuid[:12]} --finish")


def compared(done: SearchDone) -> list[tuple[str, str, str]]:
    """Name, few-shot loss and its bootstrap interval, of what was there and of what was found."""
    result, intervals = done.result, done.intervals
    there = result.baselines
    rows: list[tuple[str, str, float]] = []
    if there is not None:
        rows = [
            ("base", "base", there.base.loss),
            ("uniform", "uniform", there.uniform.loss),
            ("best_single", f"best single ({there.best_single_name})", there.best_single.loss),
        ]
    rows.append((MIX, f"found ({result.preset or 'default'} search)", result.loss))
    return [(name, f"{loss:.4f}", span(intervals.get(key))) for key, name, loss in rows]


def contribution_lines(explanation: Explanation | None) -> list[RenderableType]:
    """How much the loss rises without each adapter; those that harm are marked."""
    if explanation is None or not explanation.contributions:
        return []
    rows = [
        (
            one.name,
            f"{one.gain:+.4f}",
            "" if one.error is None else f"± {one.error:.4f}",
            "better without it" if one.negative else "",
        )
        for one in explanation.contributions
    ]
    title = f"loss without the adapter, minus with it ({explanation.evaluations} more evaluations)"
    return [table(title, ("adapter", "gain", "error", ""), rows, right=("gain", "error")), ""]


def held_out(result: SearchResult) -> list[RenderableType]:
    """What the examples say that each candidate was not fitted to."""
    if result.gate is None:
        return []
    rows = [
        (
            f"{one.name}{' (kept)' if one.name == result.gate.kept else ''}",
            f"{one.loss:.4f}",
            f"{one.low:.3f} to {one.high:.3f}",
            "" if one.ahead_of_base == 0 else f"{one.ahead_of_base:.0%}",
        )
        for one in result.gate.estimates
    ]
    columns = ("candidate", "loss", "90 % interval", "ahead of base")
    return [table(f"held-out loss, {result.gate.folds} folds", columns, rows, right=columns[1:]), ""]


def weight_lines(result: SearchResult) -> list[RenderableType]:
    """Bars, or a table of adapters and groups where each adapter has several weights."""
    if not result.groups:
        return list(weight_bars(result.adapter_names, result.weights))
    used = [
        (name, *(f"{weight:+.3f}" for weight in weights))
        for name, weights in zip(result.adapter_names, result.by_adapter, strict=True)
        if any(weights)
    ]
    lines: list[RenderableType] = [table("weights", ("adapter", *result.groups), used, right=result.groups)]
    return [*lines, *_idle(len(result.adapter_names) - len(used))]


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
