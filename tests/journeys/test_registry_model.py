"""The registry against a model of a few dictionaries: whatever is done in whatever order, also by processes that die in
the middle, what the model says is there, with its bytes, and nothing else; and the home is consistent.

`tests/benchmarks/bench_registry.py` looks for longer, and elsewhere each time. What it found is kept below.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from storage import refs, repos
from tests.journeys.registry.machine import (
    Crashes,
    Registry,
    RegistryMachine,
    adapter_files,
    crashing_processes,
    make_home,
)
from tests.journeys.registry.verbs import Op

RUNS, STEPS = 3, 14
CREATE: Op = {"verb": "create", "repo": "admin/a", "visibility": "public"}
COMMIT: Op = {
    "verb": "commit", "repo": "admin/a", "branch": "main", "puts": {"a.txt": "one"}, "claims": {}, "copies": {},
    "deletes": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def crashes() -> Iterator[Crashes]:
    with crashing_processes() as ask:
        yield ask


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("registry") / "home")


@pytest.fixture
def registry(template: Path, crashes: Crashes, tmp_path: Path) -> Iterator[Registry]:
    """A home that is empty but for its accounts."""
    made = Registry(Path(shutil.copytree(template, tmp_path / "registry")), crashes)
    yield made
    made.close()


def test_the_registry_does_what_the_model_does(
    template: Path, crashes: Crashes, write_lora: Callable[..., Path]
) -> None:
    adapters = [(folder, adapter_files(folder)) for folder in (write_lora("one", seed=1), write_lora("two", seed=2))]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: RegistryMachine(template, adapters, crashes),
        settings=settings(
            max_examples=RUNS, stateful_step_count=STEPS, derandomize=True, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_a_home_that_is_not_as_the_model_says_is_noticed(registry: Registry) -> None:
    registry.do(CREATE)
    registry.do(COMMIT)
    with registry.home.write() as session:
        repo = repos.find(session, "admin", "a")
        head = refs.find(session, repo, "main")
        assert head is not None
        refs.create_tag(session, repo, "nobody-asked", revision_id=head.revision_id)
    with pytest.raises(AssertionError, match="nobody-asked"):
        registry.do({"verb": "gc"})


def test_bytes_that_are_not_those_committed_are_noticed(registry: Registry) -> None:
    registry.do(CREATE)
    registry.do(COMMIT)
    for path in (registry.folder / "blobs").glob("??/*"):
        path.write_bytes(b"0ne")
    with pytest.raises(AssertionError, match="sha256"):
        registry.do({"verb": "gc"})


def test_a_copy_of_a_repo_that_dies_at_any_step_is_whole_or_not_there(registry: Registry) -> None:
    """It was two transactions: between them an empty repo had the name."""
    registry.do(CREATE)
    registry.do(COMMIT)
    for events in range(0, 60, 5):
        registry.do({"verb": "duplicate", "repo": "admin/a", "to": "team/a"}, events)
        if "team/a" in registry.state["repos"]:
            break
    assert events > 5 and "team/a" in registry.state["repos"]


def test_what_was_backed_up_is_what_is_restored_whatever_died_on_the_way(registry: Registry) -> None:
    registry.do(CREATE)
    registry.do(COMMIT)
    for events in (1, 4, 7, None):
        registry.back_up(events)
    registry.do({"verb": "delete repo", "repo": "admin/a", "force": False})
    for events in (1, 4, 7, None):
        registry.restore(events)
    assert "admin/a" in registry.state["repos"]
    assert registry.deaths > 2
