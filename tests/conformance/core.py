"""What every client since 0.36 does with a hub, in one script that needs nothing but huggingface_hub itself.

Run by `run.py` with HF_ENDPOINT, HF_TOKEN and HF_HOME set; the argument is the caller's namespace. Fails by assertion.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import tempfile
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError


def safetensors(values: int, seed: int) -> bytes:
    """A valid file with one tensor, without the safetensors library."""
    data = b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(values // 8))
    header = json.dumps({"x": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def expect(error: type[Exception], call: object) -> None:
    try:
        call()  # type: ignore[operator]
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")


def main(namespace: str) -> None:
    api = HfApi()
    repo = f"{namespace}/core"
    assert api.whoami()["name"] == namespace
    api.create_repo(repo)
    api.create_repo(repo, exist_ok=True)
    expect(HfHubHTTPError, lambda: api.create_repo(repo))
    assert len(api.model_info(repo).sha) == 40
    folder = Path(tempfile.mkdtemp())
    (folder / "sub").mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [core]\n---\nwords\n", encoding="utf-8")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "sub" / "a b#.json").write_text("{}", encoding="utf-8")
    (folder / "w.safetensors").write_bytes(safetensors(100_000, 1))
    api.upload_folder(folder_path=str(folder), repo_id=repo)
    back = Path(snapshot_download(repo))
    for path in folder.rglob("*"):
        if path.is_file():
            assert (back / path.relative_to(folder)).read_bytes() == path.read_bytes(), path
    sha = api.model_info(repo).sha
    api.upload_folder(folder_path=str(folder), repo_id=repo)
    assert api.model_info(repo).sha == sha, "an unchanged upload made a commit"
    api.create_tag(repo, tag="v1")
    new = safetensors(50_000, 2)
    api.upload_file(path_or_fileobj=new, path_in_repo="w.safetensors", repo_id=repo)
    old = Path(api.hf_hub_download(repo, "w.safetensors", revision="v1")).read_bytes()
    assert old == (folder / "w.safetensors").read_bytes()
    assert Path(api.hf_hub_download(repo, "w.safetensors")).read_bytes() == new
    api.create_branch(repo, branch="feat/x", revision="v1")
    operations = [CommitOperationAdd("b.txt", b"b"), CommitOperationDelete("empty.txt")]
    api.create_commit(repo, operations, commit_message="more", revision="feat/x")
    assert "b.txt" in api.list_repo_files(repo, revision="feat/x") and "b.txt" not in api.list_repo_files(repo)
    api.delete_branch(repo, branch="feat/x")
    assert [ref.name for ref in api.list_repo_refs(repo).tags] == ["v1"]
    assert len(api.list_repo_commits(repo)) == 3
    assert {e.path for e in api.list_repo_tree(repo, recursive=True)} >= {"sub", "sub/a b#.json", "w.safetensors"}
    assert [e.path for e in api.get_paths_info(repo, ["README.md", "none"])] == ["README.md"]
    assert [m.id for m in api.list_models(author=namespace, filter="core")] == [repo]
    assert api.file_exists(repo, "README.md") and not api.file_exists(repo, "none")
    expect(RevisionNotFoundError, lambda: api.model_info(repo, revision="none"))
    expect(RepositoryNotFoundError, lambda: api.model_info(f"{namespace}/none"))
    expect(EntryNotFoundError, lambda: api.hf_hub_download(repo, "none"))
    first = api.list_repo_commits(repo)[-1].commit_id
    expect(
        HfHubHTTPError,
        lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, parent_commit=first),
    )
    done = api.upload_file(path_or_fileobj=b"p", path_in_repo="p.txt", repo_id=repo, create_pr=True)
    assert done.pr_num == 1
    api.move_repo(repo, f"{repo}-moved")
    assert api.model_info(repo).id == f"{repo}-moved"
    api.delete_repo(f"{repo}-moved")
    assert not api.repo_exists(f"{repo}-moved")
    print(f"huggingface_hub {huggingface_hub.__version__}: ok")


if __name__ == "__main__":
    main(sys.argv[1])
