"""What a folder would publish, and what is refused before a byte is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.errors import BadUpload
from hub.local_files import collect_files


def test_files_come_in_path_order_under_the_repo_folder_without_clutter(tmp_path: Path) -> None:
    for name in ("b.txt", "sub/a.txt", ".git/config", ".cache/huggingface/x", "__pycache__/m.pyc", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [f.path for f in collect_files(tmp_path, into="folder")] == ["folder/b.txt", "folder/sub/a.txt"]


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "rng_state.pth", "x.PKL"])
def test_a_pickle_by_name_is_refused_and_the_remedy_excludes_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "README.md").write_text("hello")
    with pytest.raises(BadUpload) as caught:
        collect_files(tmp_path)
    assert name in caught.value.message and name in caught.value.remedy
    assert [f.path for f in collect_files(tmp_path, exclude=[name])] == ["README.md"]


@pytest.mark.parametrize(
    "start", [b"\x80\x02}q\x00.", b"\x80\x05\x95", b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl"]
)
def test_a_pickle_is_refused_by_its_bytes_whatever_its_name(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(start)
    with pytest.raises(BadUpload, match="pickle"):
        collect_files(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(BadUpload, match="link that leads out"):
        collect_files(folder)


def test_a_snapshot_of_the_hugging_face_cache_is_publishable(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("content")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    assert [(f.path, f.size) for f in collect_files(snapshot)] == [("config.json", 7)]


def test_a_dangling_link_an_empty_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadUpload, match="no files"):
        collect_files(tmp_path)
    with pytest.raises(BadUpload, match="not a folder"):
        collect_files(tmp_path / "missing")
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(BadUpload, match="cannot be read"):
        collect_files(tmp_path)


def test_all_pickles_are_named_at_once_with_one_line_that_leaves_them_out(tmp_path: Path) -> None:
    for name in ("optimizer.pt", "checkpoint-1/optimizer.pt", "training_args.bin", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(BadUpload, match=r"checkpoint-1/optimizer\.pt, optimizer\.pt, training_args\.bin") as caught:
        collect_files(tmp_path)
    assert caught.value.remedy.endswith("--exclude 'optimizer.pt' --exclude 'training_args.bin'")
    assert [f.path for f in collect_files(tmp_path, exclude=["optimizer.pt", "training_args.bin"])] == ["README.md"]
