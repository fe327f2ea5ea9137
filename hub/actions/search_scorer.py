"""The scorer that a search's plan asks for: base and adapters loaded, in this process or in Ray actors."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from compose.objective import LORAHUB_OBJECTIVE, default_objective
from compose.trials import SearchResult
from hub.actions.search_objective import objective_of
from hub.actions.search_on_ray import RaySetup, scorer_in_actors
from hub.actions.search_plan import SearchOptions, SearchPlan
from hub.read_parts import read_parts

if TYPE_CHECKING:
    from compose.adapter import LoraAdapter
    from compose.scoring.loading import LoadedBase


def scorer_of(plan: SearchPlan, ray: RaySetup | None = None, held: ExitStack | None = None) -> Any:
    """The scorer of `plan`, in this process or in Ray actors that live until `held` is closed."""
    return _scorer(plan) if ray is None or held is None else _scorer_on_ray(plan, ray, held)


def _scorer(plan: SearchPlan) -> Any:
    from compose.scoring.loading import make_scorer

    base = base_of(plan)
    make = partial(make_scorer, base, **_mixing(plan))
    return objective_of(plan, make, kind=base.kind, tokenizer=base.tokenizer)


def base_of(plan: SearchPlan) -> LoadedBase:
    """The plan's base model, in its number format on its device."""
    from compose.scoring.loading import load_base

    return load_base(plan.base.files(), dtype=plan.options.dtype, device=plan.options.device)


def adapters_of(plan: SearchPlan) -> list[LoraAdapter]:
    """The plan's adapters, as they are mixed on its base."""
    from compose.base_weights import BaseWeights

    return read_parts(plan.parts, BaseWeights(plan.base.files()))


def _scorer_on_ray(plan: SearchPlan, ray: RaySetup, held: ExitStack) -> Any:
    return scorer_in_actors(plan, plan.base.files(), ray, held, _mixing(plan))


def _mixing(plan: SearchPlan) -> dict[str, Any]:
    """What every scorer of this plan is made with, whatever its rows."""
    return {
        "adapters": adapters_of(plan),
        "method": plan.options.merge_method(),
        "params": plan.options.merge_params(),
        "max_new_tokens": plan.options.max_new_tokens,
        "token_budget": plan.options.chunk_tokens,
        "groups": plan.groups,
    }


def decided_in_float32(options: SearchOptions, fine: Any, result: SearchResult) -> SearchResult:
    """The result of a search in a coarser format, by the losses of `fine`, a scorer in float32."""
    from compose.finalists import rescored

    objective = LORAHUB_OBJECTIVE if options.preset else default_objective()
    return rescored(result, fine, objective, coarse=options.dtype)
