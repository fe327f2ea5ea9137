"""The same server over PostgreSQL: what differs between the databases is locking, text and time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError
from sqlalchemy import text

from storage import open_database


@pytest.fixture
def postgres_home(postgres_url: str) -> str:
    admin = open_database(postgres_url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS served WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE served"))
    admin.dispose()
    return postgres_url.replace("/postgres?", "/served?")


def test_publishing_listing_and_moving_on_postgres(
    postgres_home: str, serve_with: Any, write_lora: Callable[..., Path], tmp_path: Path
) -> None:
    live = serve_with(database_url=postgres_home)
    ann, bob = live.user(), live.user()
    repo = f"{ann.name}/sql"
    ann.api.create_repo(repo, private=True)
    ann.api.upload_folder(repo_id=repo, folder_path=write_lora("a", card="---\nlicense: mit\n---\n"))
    ann.api.create_tag(repo, tag="v1")
    assert [m.id for m in ann.api.list_models(filter=["lora", "license:mit"], search="SQL", sort="last_modified")] == [
        repo
    ]
    assert list(bob.api.list_models()) == [] and not bob.api.repo_exists(repo)

    def push(i: int) -> None:
        ann.api.upload_file(path_or_fileobj=b"%d" % i, path_in_repo=f"{i}.txt", repo_id=repo)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(16)))
    assert len(ann.api.list_repo_files(repo)) == 19 and len(ann.api.list_repo_commits(repo)) == 18
    ann.api.update_repo_settings(repo, private=False)
    done = bob.api.upload_file(path_or_fileobj=b"p", path_in_repo="p.txt", repo_id=repo, create_pr=True)
    ann.api.merge_pull_request(repo, done.pr_num)
    ann.api.move_repo(repo, f"{ann.name}/moved")
    back = Path(bob.api.snapshot_download(repo, revision="v1", local_dir=tmp_path / "back"))
    assert (back / "adapter_config.json").is_file() and not (back / "p.txt").exists()
    for name in ("nul\0", "a/\0"):
        with pytest.raises((HfHubHTTPError, ValueError)):
            ann.api.hf_hub_download(f"{ann.name}/moved", "adapter_config.json", revision=name)
