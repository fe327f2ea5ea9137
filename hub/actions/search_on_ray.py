"""The scorer of a search in Ray actors: every actor loads the base and is given the adapters; the rest stays here.

The base model must lie at the same path on every node, and the nodes must have the same version of mixhub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose.errors import SearchError
from compose.search_settings import ADAM, FIT
from hub.actions.search_objective import objective_of
from hub.ray_cluster import connected

if TYPE_CHECKING:
    from compose.scoring.protocol import Scorer
    from compose.scoring.ray_scorer import RayScorers
    from hub.actions.search_plan import SearchOptions, SearchPlan

ACTOR_DEVICES = ("cpu", "cuda")
"""An actor has one GPU whole, which Ray chooses, or none."""


@dataclass(frozen=True)
class RaySetup:
    """How a search is run, not what it asks: never stored with it. `actors` None: one per GPU or CPU slot. `warn` is
    told what happens on the way."""

    address: str
    actors: int | None = None
    warn: Callable[[str], None] = lambda _words: None


def check_in_actors(options: SearchOptions) -> None:
    """`SearchError` for what actors cannot do. Whether their nodes have the GPUs, the nodes say: this machine need not
    have one to drive a cluster of them."""
    if options.device not in ACTOR_DEVICES:
        raise SearchError(
            f"--device {options.device} with --ray: each actor has one GPU, which Ray chooses, expected cuda or cpu",
            remedy="--device cuda (CUDA_VISIBLE_DEVICES of a node says which of its GPUs Ray has), or leave --ray out",
        )
    if options.dtype == "auto" and options.device != "cpu":
        raise SearchError(
            "--dtype auto with --ray: what the actors' GPUs compute in is not known before the search is stored",
            remedy="--dtype bfloat16, tf32 or float32",
        )
    if options.optimizer == ADAM:
        raise SearchError(
            f"--optimizer {ADAM} with --ray: scorers in actors run no backward",
            remedy=f"--optimizer {FIT}, or leave --ray out",
        )


def scorer_in_actors(
    plan: SearchPlan, directory: Path, ray: RaySetup, held: ExitStack, settings: dict[str, Any]
) -> Scorer:
    """As `hub.actions.search` makes it in this process from the base in `directory`, in actors that live until `held`
    is closed. `settings` are those of `make_scorer` that do not depend on rows."""
    from compose.scoring.loading import read_kind

    kind, tokenizer = read_kind(directory)
    actors = held.enter_context(actors_with(directory, plan.options, ray, settings))
    return objective_of(plan, actors.make_scorer, kind=kind, tokenizer=tokenizer)


@contextmanager
def actors_with(
    directory: Path, options: SearchOptions, ray: RaySetup, settings: dict[str, Any]
) -> Iterator[RayScorers]:
    """Actors that load the base in `directory`, as `options` say, and make scorers with `settings`; until closed."""
    import torch

    from compose.scoring.ray_scorer import RayScorers

    with (
        connected(ray.address),
        RayScorers(
            partial(load_maker, directory, options.dtype, options.device, settings), actors=ray.actors,
            gpus=options.device != "cpu", threads=torch.get_num_threads(), warn=ray.warn,
        ) as actors,
    ):  # fmt: skip
        yield actors


def load_maker(directory: Path, dtype: str, device: str, settings: dict[str, Any]) -> Any:
    """Runs in an actor: `make_scorer` of the base on this node, with the GPU that Ray gave it. `BaseModelError` when
    there is none, or it does not compute in `dtype`."""
    from compose.device import TF32, check_device, scoring_dtype
    from compose.scoring.loading import load_base, make_scorer

    check_device(device)
    base = load_base(directory, dtype=scoring_dtype(dtype, device) if dtype == TF32 else dtype, device=device)
    return partial(make_scorer, base, **settings)
