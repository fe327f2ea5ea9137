"""How fast this machine scores mixes of a home's adapters. Nothing is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.actions.search_objective import rows_of
from hub.actions.search_plan import SearchPlan
from hub.actions.search_scorer import adapters_of, base_of

if TYPE_CHECKING:
    from compose.scoring.measurement import Measured


def bench(plan: SearchPlan, *, population: int, repeats: int) -> Measured:
    """Measure the scorer that a search by `plan` would use, at populations of `population` candidates: its base, its
    adapters, its rows with templates and labels applied. Errors are those of the search."""
    from compose.scoring.measurement import measure

    options = plan.options
    base = base_of(plan)
    examples, labels = rows_of(plan, kind=base.kind, tokenizer=base.tokenizer)
    return measure(
        base,
        examples=examples,
        adapters=adapters_of(plan),
        method=options.merge_method(),
        params=options.merge_params(),
        groups=plan.groups,
        labels=labels,
        population=population,
        repeats=repeats,
        chunks=() if options.chunk_tokens is None else (options.chunk_tokens,),
    )
