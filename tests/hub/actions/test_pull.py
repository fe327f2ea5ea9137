"""Pulling: the bytes that were published, from every form of address, and never over what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.actions.aliases import promote
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.address import parse_address as at
from hub.errors import WouldOverwrite
from hub.home import Home
from storage.errors import NotFound

Write = Callable[..., Path]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_comes_back_is_what_was_published(home: Home, write_lora: Write, tmp_path: Path) -> None:
    folder = write_lora("a", card="hello\r\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "empty.txt").write_bytes(b"")
    publish(home, folder, at("team/a"))
    done = pull(home, at("team/a"), tmp_path / "deep" / "out")
    assert bytes_of(done.directory) == bytes_of(folder)
    assert not any(p.is_symlink() for p in done.directory.rglob("*"))
    assert publish(home, done.directory, at("team/a")).created is False


def test_version_alias_branch_and_commit_prefix_name_the_same_bytes(
    home: Home, write_lora: Write, tmp_path: Path
) -> None:
    first = publish(home, write_lora("one", seed=1), at("team/a"))
    promote(home, at("team/a@v1"), "prod")
    publish(home, write_lora("two", seed=2), at("team/a"))
    expected = bytes_of(tmp_path / "one")
    for revision in ("v1", "prod", first.commit_id, first.commit_id[:7]):
        done = pull(home, at(f"team/a@{revision}"), tmp_path / f"out-{revision}")
        assert bytes_of(done.directory) == expected and done.commit_id == first.commit_id
    assert bytes_of(pull(home, at("team/a@main"), tmp_path / "head").directory) == bytes_of(tmp_path / "two")


def test_a_folder_of_a_repo_comes_alone_and_without_its_prefix(home: Home, write_lora: Write, tmp_path: Path) -> None:
    publish(home, write_lora("left", seed=1), at("team/many/left"))
    publish(home, write_lora("right", seed=2), at("team/many/right"))
    assert bytes_of(pull(home, at("team/many/right"), tmp_path / "r").directory) == bytes_of(tmp_path / "right")
    both = bytes_of(pull(home, at("team/many@v2"), tmp_path / "both").directory)
    assert {path.split("/")[0] for path in both} == {"left", "right"}
    with pytest.raises(NotFound, match="no folder 'middle'"):
        pull(home, at("team/many/middle"), tmp_path / "m")


def test_the_default_folder_is_the_name_in_the_current_folder(
    home: Home, write_lora: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_lora("a")
    publish(home, folder, at("team/sql"))
    publish(home, folder, at("team/many/deep/er"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pull(home, at("team/sql@v1"))
    pull(home, at("team/many/deep/er"))
    assert bytes_of(Path("sql")) == bytes_of(Path("er")) == bytes_of(folder)


def test_nothing_is_overwritten_without_force(home: Home, write_lora: Write, tmp_path: Path) -> None:
    folder = write_lora("a")
    publish(home, folder, at("team/a"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    (out / "adapter_config.json").write_text("mine")
    with pytest.raises(WouldOverwrite, match=r"adapter_config\.json") as caught:
        pull(home, at("team/a"), out)
    assert "--force" in caught.value.remedy
    assert bytes_of(out) == {"mine.txt": b"keep", "adapter_config.json": b"mine"}
    pull(home, at("team/a"), out, force=True)
    assert bytes_of(out) == {**bytes_of(folder), "mine.txt": b"keep"}


@pytest.mark.parametrize("force", [False, True])
def test_a_file_or_folder_in_the_way_is_an_error(home: Home, write_lora: Write, tmp_path: Path, force: bool) -> None:
    publish(home, write_lora("a"), at("team/a"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WouldOverwrite, match="is a file"):
        pull(home, at("team/a"), tmp_path / "file", force=force)
    (tmp_path / "out" / "adapter_config.json").mkdir(parents=True)
    with pytest.raises(WouldOverwrite, match=r"adapter_config\.json"):
        pull(home, at("team/a"), tmp_path / "out", force=force)
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_a_link_in_the_target_is_replaced_not_followed(home: Home, write_lora: Write, tmp_path: Path) -> None:
    publish(home, write_lora("a"), at("team/a"))
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "adapter_config.json").symlink_to(tmp_path / "precious")
    with pytest.raises(WouldOverwrite):
        pull(home, at("team/a"), tmp_path / "out")
    pull(home, at("team/a"), tmp_path / "out", force=True)
    assert (tmp_path / "precious").read_text() == "mine"
