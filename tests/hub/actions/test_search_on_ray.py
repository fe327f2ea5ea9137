"""What a search in Ray actors asks of the machine that starts it. With real actors: tests/journeys/test_ray.py."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose.errors import BaseModelError, SearchError
from hub.actions.publish import publish
from hub.actions.search import run
from hub.actions.search_on_ray import RaySetup, load_maker
from hub.actions.search_plan import SearchOptions, SearchPlan, new_plan
from hub.address import parse_address
from hub.errors import HubError
from hub.home import Home
from storage import searches


@pytest.fixture
def planned(
    home: Home, write_lora: Callable[..., Path], tiny_t5: Path, few_shot: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SearchPlan]:
    """A plan with these options, on a machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    publish(home, write_lora("a"), parse_address("team/a"), base=str(tiny_t5))

    def plan(*, in_actors: bool = True, **options: str) -> SearchPlan:
        chosen = SearchOptions(budget=6, **options)  # type: ignore[arg-type]  # those of one type
        return new_plan(home, [parse_address("team/a")], few_shot, options=chosen, in_actors=in_actors)

    return plan


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
def test_a_machine_without_a_gpu_can_drive_a_cluster_of_them(planned: Callable[..., SearchPlan], dtype: str) -> None:
    options = planned(device="cuda", dtype=dtype).options
    assert (options.device, options.dtype) == ("cuda", dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_node_without_a_gpu_says_so(tiny_t5: Path) -> None:
    with pytest.raises(BaseModelError, match="'cuda' cannot be used here"):
        load_maker(tiny_t5, "tf32", "cuda", {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda:1"}, r"--device cuda:1 with --ray(.|\n)*--device cuda"),
        ({"device": "auto"}, r"--device auto with --ray(.|\n)*--device cuda"),
        ({"device": "cuda", "dtype": "auto"}, r"--dtype auto with --ray(.|\n)*bfloat16"),
        ({"optimizer": "adam"}, r"--optimizer adam with --ray(.|\n)*--optimizer fit"),
    ],
    ids=str,
)
def test_what_actors_cannot_do_is_refused_at_once(
    planned: Callable[..., SearchPlan], options: dict[str, str], said: str
) -> None:
    with pytest.raises(SearchError, match=said):
        planned(**options)


def test_a_search_that_began_without_ray_does_not_go_on_in_actors_that_cannot_run_it(
    planned: Callable[..., SearchPlan], home: Home
) -> None:
    with pytest.raises(SearchError, match="--optimizer adam with --ray"):
        run(home, planned(in_actors=False, optimizer="adam"), ray=RaySetup("local"))
    with home.read() as session:
        assert searches.every(session) == []


def test_where_no_ray_answers_nothing_is_stored(planned: Callable[..., SearchPlan], home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(HubError, match=f"no Ray answers at {address}"):
        run(home, planned(), ray=RaySetup(address))
    with home.read() as session:
        assert searches.every(session) == []
