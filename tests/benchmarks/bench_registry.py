"""The registry against its model (`tests/journeys/registry/`), for longer than in the suite and elsewhere each time.

    python tests/benchmarks/bench_registry.py [--runs 300] [--steps 30] [--seed 1]

First each verb dies at each of its steps, one after the other; then hypothesis looks for a sequence of verbs after
which home and model differ. A sequence that it finds is printed, and belongs into `test_registry_model.py`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from kills.writers import write_adapter

from tests.journeys.registry.machine import (
    Crashes,
    Registry,
    RegistryMachine,
    adapter_files,
    crashing_processes,
    make_home,
)
from tests.journeys.registry.verbs import BACKUPS, Op

NOTHING: Op = {"claims": {}, "copies": {}, "deletes": []}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="mixhub-registry-"))
    began = time.monotonic()
    try:
        with crashing_processes() as crashes:
            run(chosen, scratch, crashes)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"no difference in {time.monotonic() - began:.0f} s")


def run(chosen: argparse.Namespace, scratch: Path, crashes: Crashes) -> None:
    template = make_home(scratch / "template")
    adapters = []
    for number in range(2):
        write_adapter(scratch / f"adapter-{number}", seed=number)
        adapters.append((scratch / f"adapter-{number}", adapter_files(scratch / f"adapter-{number}")))
    died = die_everywhere(template, scratch, adapters[0], crashes)
    print(f"died at {sum(died.values())} steps: " + ", ".join(f"{verb} {count}" for verb, count in died.items()))
    machine = seed(chosen.seed)(lambda: RegistryMachine(template, adapters, crashes))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=chosen.runs, stateful_step_count=chosen.steps, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    print(f"{chosen.runs} runs of up to {chosen.steps} steps, seed {chosen.seed}")


def die_everywhere(template: Path, scratch: Path, adapter: tuple[Path, Any], crashes: Crashes) -> Counter[str]:
    """How many steps each verb has, at each of which it died once and did all or nothing."""
    died: Counter[str] = Counter()
    registry = Registry(Path(shutil.copytree(template, scratch / "everywhere")), crashes)
    for op in each_verb(adapter):
        while True:
            before = registry.deaths
            registry.do(op, died[op["verb"]])
            if registry.deaths == before:
                break
            died[op["verb"]] += 1
    for verb, work in (("backup", registry.back_up), ("restore", registry.restore)) if BACKUPS else ():
        before = -1
        while before != registry.deaths:
            before = registry.deaths
            work(died[verb])
            died[verb] += registry.deaths - before
    registry.close()
    return died


def each_verb(adapter: tuple[Path, Any]) -> Iterator[Op]:
    """Each changes something after those before it."""
    repo = {"repo": "admin/a"}
    yield {"verb": "create", **repo, "visibility": "public"}
    yield {"verb": "commit", **repo, "branch": "main", "puts": {"a.txt": "one", "b.txt": "two"}, **NOTHING}
    yield {"verb": "publish", "repo": "team/a", "folder": str(adapter[0]), "files": adapter[1]}
    yield {"verb": "branch", **repo, "name": "dev", "at": "main"}
    yield {"verb": "tag", **repo, "name": "x", "at": "main"}
    yield {"verb": "version", **repo, "number": None, "at": "main"}
    yield {"verb": "promote", "repo": "team/a", "alias": "prod", "at": "v1", "who": ""}
    yield {"verb": "protect", "repo": "team/a", "alias": "prod", "role": "admin"}
    yield {"verb": "duplicate", **repo, "to": "team/b"}
    yield {"verb": "rename", **repo, "to": "admin/b"}
    yield {"verb": "open or close", "repo": "admin/b", "visibility": "private"}
    yield {"verb": "delete branch", "repo": "admin/b", "name": "dev"}
    yield {"verb": "delete tag", "repo": "admin/b", "name": "x"}
    yield {"verb": "delete version", "repo": "admin/b", "number": 1}
    yield {"verb": "delete repo", "repo": "admin/b", "force": False}
    yield {"verb": "reclaim"}
    yield {"verb": "gc"}


if __name__ == "__main__":
    main()
