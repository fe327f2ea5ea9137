"""`mixhub export --push`: what this machine mixes arrives at a live hub, by the client that everybody uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

Mixhub = Callable[..., Any]
Read = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def mixed(mixhub: Mixhub, write_lora: Callable[..., Path], tiny_t5: Path) -> None:
    """team/mix in a home of this machine."""
    for seed, name in enumerate("ab", 1):
        assert mixhub("publish", write_lora(name, seed=seed), f"team/{name}", "--base", tiny_t5).code == 0
    assert mixhub("compose", "team/a=0.6", "team/b=-0.3", "--as", "team/mix", "--method", "exact").code == 0


def downloaded(user: Any, repo: str, folder: Path) -> Path:
    return Path(snapshot_download(repo, local_dir=folder, endpoint=user.url, token=user.token))


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("words", [[], ["--profile", "vllm", "--max-rank", "3"], ["--fused"]])
def test_a_push_holds_what_an_export_writes(
    mode: str,
    words: list[str],
    mixhub: Mixhub,
    ann: Any,
    bob: Any,
    read_folder: Read,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HF_TOKEN", ann.token)
    repo = f"{ann.name}/pushed"
    ran = mixhub("export", "team/mix", *words, "--push", repo, "--endpoint", ann.url, "--private", "--json")
    assert ran.code == 0, ran.err
    assert mixhub("export", "team/mix", *words, "--to", tmp_path / "here").code == 0
    there = read_folder(downloaded(ann, repo, tmp_path / "there"))
    here = read_folder(tmp_path / "here")
    assert {name: there[name] for name in here} == here
    assert set(there) - set(here) <= {".gitattributes"}
    assert ran.json["pushed"].startswith(f"{ann.url}/{repo}/commit/")
    assert ran.json["pushed"].rpartition("/")[2] == ann.api.model_info(repo).sha
    with pytest.raises(RepositoryNotFoundError):
        bob.api.model_info(repo)


@pytest.mark.usefixtures("mixed")
def test_the_hub_of_hf_endpoint_is_the_default_and_a_second_push_is_a_second_commit(
    live: Any, ann: Any, home_folder: Path, tmp_path: Path
) -> None:
    """In a process of its own, as HF_ENDPOINT is read once."""
    environment = {**os.environ, "HF_ENDPOINT": live.url, "HF_TOKEN": ann.token, "HF_HOME": str(tmp_path / "other")}
    environment |= {"MIXHUB_HOME": str(home_folder), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    repo = f"{ann.name}/twice"
    script = "import sys; from hub.cli.commands import app_for; [app_for()(['export', a, '--push', "
    script += "sys.argv[1], '--json'], standalone_mode=False) for a in ('team/mix', 'team/a')]"
    done = subprocess.run(
        [sys.executable, "-c", script, repo], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{live.url}/{repo}/commit/") == 2
    assert len(ann.api.list_repo_commits(repo)) >= 2
    assert not ann.api.model_info(repo).private
    HfApi(endpoint=live.url, token=False).hf_hub_download(repo, "adapter_config.json", local_dir=tmp_path / "seen")


@pytest.mark.usefixtures("mixed")
def test_a_token_that_may_not_write_pushes_nothing(
    live: Any, mixhub: Mixhub, ann: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = live.token_of(ann.name, role="read")
    monkeypatch.setenv("HF_TOKEN", reader.token)
    ran = mixhub("export", "team/mix", "--push", f"{ann.name}/nothing", "--endpoint", ann.url)
    assert ran.code == 1
    said = " ".join(ran.err.split())
    assert f"cannot push to {ann.name}/nothing at {ann.url}" in said and "HF_TOKEN" in said
    with pytest.raises(RepositoryNotFoundError):
        ann.api.model_info(f"{ann.name}/nothing")
