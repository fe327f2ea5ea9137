"""The scorer of a search in Ray actors: every actor loads the base and is given the adapters; the rest stays here.

The base model must lie at the same path on every node, and the nodes must have the same version of mixhub.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.actions.search_objective import objective_of
from hub.ray_cluster import connected

if TYPE_CHECKING:
    from compose.scoring.protocol import Scorer
    from hub.actions.search_plan import SearchPlan


@dataclass(frozen=True)
class RaySetup:
    """How a search is run, not what it asks: never stored with it. `actors` None: one per GPU or CPU slot."""

    address: str
    actors: int | None = None


def scorer_in_actors(
    plan: SearchPlan, directory: Path, ray: RaySetup, held: ExitStack, settings: dict[str, Any]
) -> Scorer:
    """As `hub.actions.search` makes it in this process from the base in `directory`, in actors that live until `held`
    is closed. `settings` are those of `make_scorer` that do not depend on rows."""
    import torch

    from compose.scoring.loading import read_kind
    from compose.scoring.ray_scorer import RayScorers

    kind, tokenizer = read_kind(directory)
    held.enter_context(connected(ray.address))
    actors = held.enter_context(
        RayScorers(
            partial(load_maker, directory, plan.options.dtype, plan.options.device, settings), actors=ray.actors,
            gpus=plan.options.device != "cpu", threads=torch.get_num_threads(),
        )
    )  # fmt: skip
    return objective_of(plan, actors.make_scorer, kind=kind, tokenizer=tokenizer)


def load_maker(directory: Path, dtype: str, device: str, settings: dict[str, Any]) -> Any:
    """Runs in an actor: `make_scorer` of the base on this node. An actor sees its own GPU as the first."""
    from compose.scoring.loading import load_base, make_scorer

    base = load_base(directory, dtype=dtype, device=device if device == "cpu" else "cuda")
    return partial(make_scorer, base, **settings)
