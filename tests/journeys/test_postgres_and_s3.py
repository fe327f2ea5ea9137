"""The main job on PostgreSQL and S3: only two variables differ, and nothing of a home lies on the local disk."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import create_engine, text

from compose.peft_files import read_adapter
from hub.actions.database import check, collect_garbage
from hub.client import Hub
from hub.settings import Settings


@pytest.fixture
def settings(postgres_url: str, s3_endpoint: str, s3_environment: None, tmp_path: Path) -> Iterator[Settings]:
    """A home whose database is a new one of the PostgreSQL server and whose blobs are in a new bucket."""
    del s3_environment
    admin = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    name = "journey"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    urllib.request.urlopen(urllib.request.Request(f"{s3_endpoint}/journey", method="PUT")).close()
    database = postgres_url.replace("/postgres?", f"/{name}?")
    yield Settings(home=tmp_path / "home", database_url=database, blobs_url="s3://journey/adapters")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def test_the_four_journeys_on_postgresql_and_s3(
    settings: Settings, tiny_t5: Path, write_lora: Callable[..., Path], few_shot: Path, tmp_path: Path
) -> None:
    with Hub(settings=settings) as hub:
        hub.publish(tiny_t5, "team/base")
        for seed, name in enumerate(("a", "b")):
            assert hub.publish(write_lora(name, seed=seed), f"team/{name}", base="team/base").address.revision == "v1"
        mixed = hub.compose({"team/a": 0.5, "team/b": -1.0}, "team/mix", method="exact")
        found = hub.search(["team/a", "team/b"], few_shot, into="team/found", budget=12)
        assert found.result.evaluations <= 12
        hub.promote("team/mix@v1", "prod")
        folder = hub.pull("team/mix@prod", tmp_path / "mix").directory
        a, b, mix = (read_adapter(path) for path in (tmp_path / "a", tmp_path / "b", folder))
        for path, factors in mix.modules.items():
            expected = 0.5 * a.modules[path].delta() - b.modules[path].delta()
            torch.testing.assert_close(factors.delta(), expected)
        hub.export("team/mix@prod", tmp_path / "exported")
        assert next(child.address for child in hub.show("team/a").children) == "team/mix"
        assert mixed.published.commit_id == hub.show("team/mix").commit_id
    report = check(settings, deep=True)
    assert report.problems == () and report.notes == ()
    assert collect_garbage(settings, hours=0) == 0
    assert not (settings.directory / "blobs").exists() and not (settings.directory / "mixhub.sqlite").exists()
