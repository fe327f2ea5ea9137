"""What a person sees of a search: a live line while it runs, then its tables (`search_tables.py`) and notes."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compose.trials import Progress as Batch
from hub.actions.search import SearchDone
from hub.actions.search_plan import SearchPlan
from hub.cli.output import Output
from hub.cli.search_tables import search_tables
from hub.report.search_report import SearchReport


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


def report(out: Output, done: SearchDone, found: SearchReport) -> None:
    """What is stored of it, as `mixhub report` shows it, and where the mix was published."""
    result = done.result
    for note in (*found.notes, *([found.verdict] if result.gate is not None or found.metric else [])):
        out.warn(note)
    text = [
        *search_tables(found),
        f"[dim]{result.evaluations} evaluations, {len(result.searched)} of {len(result.adapter_names)} adapters "
        f"searched, {result.optimizer}, seed {result.seed}, {done.seconds:.1f} s, search {done.uuid[:12]}[/]",
    ]
    if done.composed is not None:
        published = done.composed.published
        text.append(f"{done.composed.verb} {published.address}  [dim]{published.commit_id[:12]}[/]")
    out.result(done.as_dict(), *text)
    if result.stopped:
        tell_how_to_go_on(out, done.uuid, done.plan, found=True)
    elif done.plan.into is not None and done.composed is None:
        out.say("nothing was published: on these examples the base model alone is best")


def tell_how_to_go_on(out: Output, uuid: str, plan: SearchPlan, *, found: bool) -> None:
    """The next command after Ctrl-C; two of them where trials were `found` stored."""
    out.say(f"stopped; continue with: mixhub search --resume {uuid[:12]}")
    if found:
        what = "publish" if plan.into else "settle on"
        out.say(f"or {what} the best so far: mixhub search --resume {uuid[:12]} --finish")
