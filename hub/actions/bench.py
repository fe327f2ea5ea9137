"""How fast this machine scores mixes of a home's adapters. Nothing is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.actions.search_plan import SearchPlan
from hub.errors import UsageError
from hub.read_parts import read_parts

if TYPE_CHECKING:
    from compose.scoring.measurement import Measured


def bench(plan: SearchPlan, *, population: int, repeats: int) -> Measured:
    """Measure the scorer that a search by `plan` would use, at populations of `population` candidates."""
    from compose.base_weights import BaseWeights
    from compose.scoring.loading import load_base
    from compose.scoring.measurement import measure

    folder, options = plan.base.files(), plan.options
    if options.searches_methods():
        raise UsageError(f"one method is measured at a time, not {options.method}", remedy="--method exact")
    return measure(
        load_base(folder, dtype=options.dtype, device=options.device),
        examples=plan.examples,
        adapters=read_parts(plan.parts, BaseWeights(folder)),
        method=options.merge_method(),
        params=options.merge_params(),
        labels=plan.labels,
        population=population,
        repeats=repeats,
        chunks=() if options.chunk_tokens is None else (options.chunk_tokens,),
    )
