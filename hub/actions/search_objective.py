"""The scorer that a search's objective, usage contract and guard set ask for, from scorers of plain rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compose.errors import BadExamples, SearchError
from compose.examples import Examples, read_examples
from compose.search_settings import ADAM

if TYPE_CHECKING:
    from compose.pareto import Tradeoff
    from compose.scoring.objectives import MakeScorer
    from compose.scoring.protocol import Scorer
    from compose.trials import SearchResult
    from hub.actions.search_plan import SearchPlan


Kind = Literal["seq2seq", "causal", "encoder"]
TASK_FILES = (".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """Where the rows of a search come from, and what they decide beside themselves."""

    examples: Examples
    objective: str
    max_new_tokens: int | None
    stop: tuple[str, ...] = ()
    own_prompts: bool = False
    """The rows are whole prompts: no contract of an adapter is applied."""


def read_source(
    given: Path | Examples, objective: str, max_new_tokens: int | None, *, limit: int | None = None
) -> Source:
    """Rows of a JSONL file, of memory, or of a task of lm-evaluation-harness, at most the first `limit`."""
    if isinstance(given, Path) and given.suffix in TASK_FILES:
        from compose.scoring.harness_task import read_task

        task = read_task(given, limit=limit)
        named = task.objective if objective == "loss" else objective
        return Source(task.examples, named, max_new_tokens or task.max_new_tokens, task.stop, own_prompts=True)
    rows = read_examples(given) if isinstance(given, Path) else given
    return Source(Examples(rows.rows[:limit]), objective, max_new_tokens)


def rows_of(plan: SearchPlan, *, kind: Kind, tokenizer: Any) -> tuple[Examples, Mapping[str, str] | None]:
    """The plan's examples as a base of this kind reads them, and the labels (label -> text) that it chooses among.

    `BadExamples` for labels that nothing would look at.
    """
    from compose.scoring.objectives import uses_choices

    ranks = uses_choices(plan.options.objective)
    if plan.labels and kind != "encoder" and not ranks:
        raise BadExamples(
            f"{plan.base.name} generates text, so labels are not used",
            remedy="leave --labels out, or rank them: --objective acc",
        )
    labels = plan.labels or plan.usage.label_texts
    speaks = labels if kind != "encoder" and not ranks else None
    return read_as(plan, plan.examples, tokenizer, speaks), None if speaks else labels


def objective_of(plan: SearchPlan, make: MakeScorer, *, kind: Kind, tokenizer: Any) -> Scorer:
    """`make(examples=..., ...)` gives the few-shot loss scorer of some rows, on the plan's base and adapters."""
    from compose.scoring.guarded import GuardedScorer
    from compose.scoring.objectives import objective_scorer

    examples, chosen_among = rows_of(plan, kind=kind, tokenizer=tokenizer)
    target = objective_scorer(
        plan.options.objective, make, examples=examples, kind=kind, labels=chosen_among, stop=plan.usage.stop
    )
    if plan.guard is None:
        return target
    labels = plan.labels or plan.usage.label_texts
    guard_labels = labels if labels and {row.output for row in plan.guard} <= set(labels) else None
    guard = make(
        examples=read_as(plan, plan.guard, tokenizer, guard_labels if kind != "encoder" else None),
        labels=guard_labels if kind == "encoder" else None,
    )
    return GuardedScorer(target, guard, tolerance=plan.options.guard_tolerance)


def rehearse(plan: SearchPlan, *, in_actors: bool = False) -> None:
    """Refuse rows, labels, templates, objective and optimizer that do not go together on this base, before the search
    is stored: its scorer is made without a model, of the base's config and tokenizer.

    Errors: those of `objective_of`, `UnknownBase` where the base's files are not here, `SearchError` for gradients of
    what has none; `in_actors`: where the losses come from Ray.
    """
    folder, options = plan.base.files(), plan.options
    plain = options.objective == "loss" and plan.guard is None and not plan.labels and not plan.usage.chat_template
    if not plain:
        from compose.scoring.loading import read_kind

        kind, tokenizer = read_kind(folder)
        losses: Any = object()
        plain = objective_of(plan, lambda **_: losses, kind=kind, tokenizer=tokenizer) is losses
    if options.optimizer == ADAM and (in_actors or not plain):
        what = "actors of Ray" if in_actors else "a guard set" if plan.guard else f"the objective {options.objective}"
        raise SearchError(
            f"adam needs gradients of the losses, which {what} cannot give",
            remedy=f"leave {'--ray' if in_actors else '--guard' if plan.guard else '--objective'} out, "
            "or --optimizer Cobyla",
        )


def read_as(plan: SearchPlan, examples: Examples, tokenizer: Any, texts: Mapping[str, str] | None) -> Examples:
    """The rows as the model reads them: texts for labels, the prompt template, then the chat template around it."""
    from compose.prompts import chatted, spoken, templated

    if texts:
        examples = spoken(examples, texts)
    if plan.usage.template:
        examples = templated(examples, plan.usage.template)
    if plan.usage.chat_template:
        examples = chatted(examples, tokenizer, plan.usage.chat_template)
    return examples


def tradeoffs_of(scorer: Scorer, result: SearchResult) -> tuple[Tradeoff, ...]:
    """The Pareto table of a finished search: target, guard, number of adapters."""
    from compose.pareto import tradeoffs
    from compose.scoring.guarded import GuardedScorer
    from compose.trials import rows_of

    means = None
    if isinstance(scorer, GuardedScorer):
        means = scorer.means(rows_of(result.trials))
    return tradeoffs(result.trials, means, groups=max(1, len(result.groups)))
