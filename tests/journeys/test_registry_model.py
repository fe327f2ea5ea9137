"""The registry against a model of a few dictionaries: whatever is done in whatever order, also by processes that die in
the middle, what the model says is there, with its bytes, and nothing else; and the home is consistent.

`tests/benchmarks/bench_registry.py` looks for longer, and elsewhere each time. What it found is kept below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.journeys.registry.machine import Crashes, RegistryMachine, adapter_files, crashing_processes, make_home

RUNS, STEPS = 30, 16


@pytest.fixture(scope="module")
def crashes() -> Iterator[Crashes]:
    with crashing_processes() as ask:
        yield ask


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("registry") / "home")


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
