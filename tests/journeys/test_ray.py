"""A search in real Ray actors on this machine: the trials of a single process, also when an actor or a node is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from compose import load_adapter
from compose.errors import BadWeights, SearchError
from compose.examples import Example, Examples
from compose.scoring import load_base, make_scorer, ray_scorer
from compose.scoring.objectives import objective_scorer
from compose.scoring.ray_scorer import RayScorers
from compose.search import search
from compose.trials import Progress
from hub.errors import HubError
from hub.ray_cluster import _require_ray, connected

HEAD = """
import sys
from ray.cluster_utils import Cluster
quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
node = {"object_store_memory": 80 * 2**20}
head = {"num_cpus": 3, "include_dashboard": False, "_system_config": quick, **node}
cluster = Cluster(initialize_head=True, head_node_args=head)
print(cluster.address, flush=True)
for _ in sys.stdin:  # a line asks for one more node
    print(cluster.add_node(num_cpus=1, **node).node_id, flush=True)
cluster.shutdown()
"""
WORDS = ("ab", "cdefgh", "ijklmnopqr", "st", "uvwxyzuvwxyz", "a")
ROWS = Examples(tuple(Example(word, word[::-1]) for word in WORDS))
SITES = ("encoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.v")
LONG = Examples(tuple(Example(word * 30, word) for word in WORDS))  # several forwards per candidate


@dataclass
class Head:
    """A Ray of our own with room for three actors, guarded by a token."""

    address: str
    process: subprocess.Popen[str]

    def add_node(self) -> str:
        """The id of one more node, a raylet of its own with room for one actor."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        with process:
            assert process.stdin is not None and process.stdout is not None
            yield Head(process.stdout.readline().strip(), process)
            process.stdin.close()


@pytest.fixture(scope="module")
def cluster(head: Head) -> str:
    """Its address."""
    return head.address


@pytest.fixture(scope="module")
def make(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """What an actor runs, and this process too: it makes scorers of a base with three adapters.

    A scorer with a `deadly` folder dies once per file that is in it, in the middle of its work; of a file that is named
    as its node, the whole node does.
    """
    folder = tmp_path_factory.mktemp("adapters")
    for seed in range(3):
        torch.manual_seed(seed)
        tensors = {f"base_model.model.{site}.lora_{ab}.weight": 0.2 * torch.randn(*shape)
                   for site in SITES for ab, shape in (("A", (2, 16)), ("B", (16, 2)))}  # fmt: skip
        (folder / str(seed)).mkdir()
        save_file(tensors, folder / str(seed) / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": list(SITES)}
        (folder / str(seed) / "adapter_config.json").write_text(json.dumps(config))
    adapters = [load_adapter(folder / str(seed)) for seed in range(3)]

    def load() -> Callable[..., Any]:
        base = load_base(tiny_t5)

        def make(*, deadly: Path | None = None, **options: Any) -> Any:
            scorer: Any = make_scorer(base, adapters=adapters, **options)
            if deadly is not None:
                inner = scorer._losses

                def losses(*arguments: Any) -> Any:
                    import ray

                    if ray.is_initialized() and (deadly / ray.get_runtime_context().get_node_id()).exists():
                        os.kill(os.getppid(), signal.SIGKILL)  # the node's own process, which holds this one
                        time.sleep(60)  # it ends before
                    for bullet in deadly.glob("bullet*"):
                        with contextlib.suppress(FileNotFoundError):  # another actor was faster
                            bullet.unlink()
                            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
                    return inner(*arguments)

                scorer._losses = losses
            return scorer

        return make

    return load


@pytest.fixture(scope="module")
def warned() -> list[str]:
    """What is said of the actors below."""
    return []


@pytest.fixture(scope="module")
def actors(cluster: str, make: Callable[..., Any], warned: list[str]) -> Iterator[RayScorers]:
    """Two of them, in the cluster."""
    with connected(cluster), RayScorers(make, actors=2, warn=warned.append) as started:
        yield started


def trials(make_scorer: Any, objective: str, rows: Examples, *, workers: int) -> Any:
    scorer = objective_scorer(objective, make_scorer, examples=rows, kind="seq2seq")
    return search(
        scorer.adapter_names,
        scorer,
        budget=14,
        seed=3,
        workers=workers,
        optimizer="OnePlusOne" if workers > 1 else "Cobyla",
    ).trials


@pytest.mark.parametrize(("objective", "rows", "workers"), [("loss", LONG, 1), ("loss", ROWS, 4), ("chrf", LONG, 3)])
def test_actors_give_exactly_the_trials_of_one_process(
    actors: RayScorers, make: Callable[..., Any], objective: str, rows: Examples, workers: int
) -> None:
    expected = trials(make(), objective, rows, workers=workers)
    assert trials(actors.make_scorer, objective, rows, workers=workers) == expected


def test_the_forwards_of_a_batch_are_shared_out(make: Callable[..., Any]) -> None:
    scorer = make()(examples=LONG)
    weights = np.array([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]])
    whole = scorer.example_losses(weights)
    parts = []
    for i in range(2):
        scorer.share = (i, 2)
        parts.append(scorer.example_losses(weights))
    there = [~np.isnan(part) for part in parts]
    assert there[0].any() and there[1].any() and (there[0] ^ there[1]).all()
    np.testing.assert_array_equal(np.where(there[0], *parts), whole)


def test_an_actor_killed_at_work_is_replaced_which_is_said_once_and_changes_nothing(
    actors: RayScorers, make: Callable[..., Any], tmp_path: Path, warned: list[str]
) -> None:
    warned.clear()
    deadly = partial(actors.make_scorer, deadly=tmp_path)
    scorer = deadly(examples=LONG)

    shots: list[int] = []

    def shoot(progress: Progress) -> None:
        if progress.evaluations >= 7 and not shots:
            (tmp_path / "bullet").touch()
            shots.append(progress.evaluations)

    found = search(
        scorer.adapter_names, scorer, budget=14, seed=3, workers=2, optimizer="OnePlusOne", on_trial=shoot
    ).trials
    assert shots and shots[0] < 14 and not list(tmp_path.iterdir()), "an actor took it"
    assert found == trials(make(), "loss", LONG, workers=2)
    assert warned == ["a Ray actor was lost; its work is asked again, of another one"]


def alive(node: str) -> bool:
    import ray

    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def test_a_node_lost_at_work_changes_nothing(
    actors: RayScorers, head: Head, make: Callable[..., Any], tmp_path: Path
) -> None:
    del actors  # they take two of the head's three places, so that one of the two below is on the new node
    node = head.add_node()
    import ray

    with RayScorers(make, actors=2) as spread:
        ray.get(list(spread._waiting))  # both have started
        scorer = spread.make_scorer(examples=LONG, deadly=tmp_path)

        def lose(progress: Progress) -> None:
            if progress.evaluations >= 7:
                (tmp_path / node).touch()

        found = search(
            scorer.adapter_names, scorer, budget=14, seed=3, workers=2, optimizer="OnePlusOne", on_trial=lose
        ).trials
    deadline = time.monotonic() + 20  # the cluster asks its nodes now and then
    while alive(node) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(node), "the node was lost"
    assert found == trials(make(), "loss", LONG, workers=2)


def test_what_a_scorer_refuses_is_refused_here_and_the_actors_go_on(actors: RayScorers) -> None:
    scorer = actors.make_scorer(examples=ROWS)
    with pytest.raises(BadWeights, match="for 3 adapters") as caught:
        scorer.example_losses(np.zeros((2, 5)))
    assert caught.value.remedy
    with pytest.raises(TypeError, match="nonsense"):
        actors.make_scorer(examples=ROWS, nonsense=1)
    assert np.isfinite(scorer.example_losses(np.zeros((2, 3)))).all()


def test_the_command_line_searches_in_actors(
    cluster: str, mixhub: Callable[..., Any], write_lora: Callable[..., Path], tiny_t5: Path, few_shot: Path
) -> None:
    for seed, name in enumerate("ab", start=1):
        mixhub("publish", write_lora(f"p{seed}", seed=seed, scale=0.2), f"team/{name}", "--base", tiny_t5)
    words = ["search", "team/a", "team/b", "--examples", few_shot, "--budget", 8, "--optimizer", "Cobyla", "--json"]
    alone = mixhub(*words).json
    there = mixhub(*words, "--ray", cluster, "--ray-actors", 1)
    assert there.code == 0, there.err
    assert json.dumps(there.json["trials"]) == json.dumps(alone["trials"])


def test_adapters_are_selected_in_actors_by_the_losses_of_one_process(
    cluster: str, mixhub: Callable[..., Any], write_lora: Callable[..., Path], tiny_t5: Path, few_shot: Path
) -> None:
    for seed in range(3):
        mixhub("publish", write_lora(f"p{seed}", seed=seed, scale=0.2), f"team/s{seed}", "--base", tiny_t5)
    words = ["search", "--select", 2, "--base", tiny_t5, "--examples", few_shot, "--budget", 8, "--json"]
    alone = mixhub(*words).json
    there = mixhub(*words, "--ray", cluster, "--ray-actors", 1)
    assert there.code == 0, there.err
    assert there.json["preselection"] == alone["preselection"] and there.json["trials"] == alone["trials"]
    no_gpu = mixhub(*words, "--ray", cluster, "--device", "cuda")
    assert no_gpu.code != 0 and "this Ray cluster has room for 0 actors with a GPU" in no_gpu.err


def test_chunks_of_adapters_are_scored_one_after_the_other_by_the_same_actors(
    actors: RayScorers, make: Callable[..., Any]
) -> None:
    expected = make()(examples=ROWS).example_losses(np.eye(3))
    for _ in range(2):
        actors.forget()
        np.testing.assert_array_equal(actors.make_scorer(examples=ROWS).example_losses(np.eye(3)), expected)


def test_a_wrong_token_is_said_at_once_and_without_log_lines(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(HubError, match=r"token is missing or incorrect(.|\n)*RAY_AUTH_TOKEN"):
        _require_ray(cluster)  # this process may be connected already
    assert capfd.readouterr() == ("", "")


def test_actors_that_are_only_lost_end_the_search_with_the_way_to_go_on(
    actors: RayScorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_scorer, "LOSSES_IN_A_ROW", 1)
    scorer = actors.make_scorer(examples=ROWS, deadly=tmp_path)
    for number in range(9):  # for both actors, and for those that replace them
        (tmp_path / f"bullet-{number}").touch()
    with pytest.raises(SearchError, match=r"3 Ray actors were lost(.|\n)*--resume"):
        scorer.example_losses(np.zeros((1, 3)))
