"""A home whose blobs were changed or lost: no command takes them for right, and `db check --repair` puts them again."""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.actions.publish import publish
from hub.address import parse_address as at
from hub.home import Home, open_home
from hub.locate import locate
from hub.settings import Settings
from storage import revisions

Run = Callable[..., Any]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def folder(home: Home, write_lora: Callable[..., Path]) -> Path:
    """Published as team/a, beside team/b."""
    publish(home, write_lora("b", seed=2), at("team/b"))
    made = write_lora("a", seed=1, card="# a\n")
    publish(home, made, at("team/a"))
    return made


def blob_of(place: Path, folder: Path, name: str = WEIGHTS) -> Path:
    sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return place / "blobs" / sha256[:2] / sha256


def flip(path: Path) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(content) // 2)
        file.write(bytes([content[len(content) // 2] ^ 1]))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


every_harm = pytest.mark.parametrize("harm", [flip, shorten, Path.unlink], ids=["flipped", "short", "missing"])


@every_harm
def test_a_command_that_reads_it_ends_with_one_error_that_names_it(
    harm: Callable[[Path], None], mixhub: Run, home: Home, folder: Path, tmp_path: Path
) -> None:
    blob = blob_of(home.directory, folder)
    parts = ("team/a=0.5", "team/b=0.5", "--allow-unbound", "--as")
    assert mixhub("compose", *parts, "team/whole").code == 0  # a checkout is there by now
    harm(blob)
    for words in (
        ("pull", "team/a", tmp_path / "out"),
        ("compose", *parts, "team/mix"),
        ("export", "team/a", "--to", tmp_path / "exported"),
    ):
        ran = mixhub(*words)
        said = " ".join(ran.err.split()).replace(" ", "")
        assert ran.code == 1, words
        assert blob.name in said and WEIGHTS in said and "mixhubdbcheck--deep--repair" in said
    assert not (tmp_path / "out" / WEIGHTS).exists()
    assert mixhub("show", "team/mix").code == 1


def test_publishing_the_folder_again_heals(mixhub: Run, home: Home, folder: Path, tmp_path: Path) -> None:
    flip(blob_of(home.directory, folder))
    assert mixhub("db", "check", "--deep").code == 1
    assert mixhub("publish", folder, "team/a", "--json").json["created"] is False
    assert mixhub("db", "check", "--deep").code == 0
    mixhub("pull", "team/a", tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


class TestRepair:
    @every_harm
    def test_a_backup_gives_back_what_was_lost(
        self, harm: Callable[[Path], None], mixhub: Run, home: Home, folder: Path, tmp_path: Path
    ) -> None:
        backup = tmp_path / "backup"
        assert mixhub("backup", backup).code == 0
        blob = blob_of(home.directory, folder)
        harm(blob)
        report = mixhub("db", "check", "--deep", "--repair", "--from", backup, "--json")
        assert report.code == 0 and report.json["repaired"] == [blob.name] and report.json["problems"] == []
        assert blob.read_bytes() == (folder / WEIGHTS).read_bytes()
        assert mixhub("db", "check", "--deep").code == 0

    def test_only_right_bytes_are_taken_and_what_stays_broken_is_said(
        self, mixhub: Run, home: Home, folder: Path, tmp_path: Path
    ) -> None:
        bad = tmp_path / "bad"
        assert mixhub("backup", bad).code == 0
        good = Path(shutil.copytree(home.directory / "blobs", tmp_path / "good"))  # the folder of blobs alone
        blob, card = blob_of(home.directory, folder), blob_of(home.directory, folder, "README.md")
        flip(blob_of(bad, folder))
        blob_of(bad, folder, "README.md").unlink()
        flip(blob)
        card.unlink()
        report = mixhub("db", "check", "--deep", "--repair", "--from", bad, "--json")
        assert report.code == 1 and report.json["repaired"] == []
        assert {line.split()[1].rstrip(":") for line in report.json["problems"]} == {blob.name, card.name}
        assert mixhub("db", "check").code == 1  # it is marked, so a quick look knows it
        (good / card.name[:2] / card.name).unlink()
        report = mixhub("db", "check", "--repair", "--from", bad, "--from", good, "--json")
        assert report.code == 1 and report.json["repaired"] == [blob.name]
        assert [card.name in line for line in report.json["problems"]] == [True]
        card.parent.mkdir(exist_ok=True)
        shutil.copy(folder / "README.md", card)  # by hand
        assert mixhub("db", "check", "--deep").code == 0

    def test_a_place_that_is_not_there_or_has_no_use_is_an_error_of_the_command(
        self, mixhub: Run, home_folder: Path, tmp_path: Path
    ) -> None:
        del home_folder
        nowhere = mixhub("db", "check", "--repair", "--from", tmp_path / "nowhere")
        assert nowhere.code == 2 and "nowhere" in nowhere.err
        assert "--repair" in mixhub("db", "check", "--from", tmp_path).err


@pytest.mark.usefixtures("s3_environment")
def test_a_checkout_that_is_a_copy_is_made_again_when_it_is_changed(
    s3_endpoint: str, write_lora: Callable[..., Path], tmp_path: Path
) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{s3_endpoint}/checkouts", method="PUT")).close()
    with open_home(Settings(home=tmp_path / "h", database_url="", blobs_url=f"s3://checkouts/{tmp_path.name}")) as home:
        folder = write_lora("a")
        publish(home, folder, at("team/a"))
        with home.read() as session:
            pinned = locate(session, at("team/a"))
        copy = pinned.directory(home) / WEIGHTS
        flip(copy)
        again = pinned.directory(home) / WEIGHTS
        assert again == copy and again.read_bytes() == (folder / WEIGHTS).read_bytes()


def test_only_the_folder_that_is_read_is_digested(
    home: Home, write_lora: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("left", "right"):
        publish(home, write_lora(name, seed=len(name)), at(f"team/many/{name}"))
    with home.read() as session:
        pinned = locate(session, at("team/many/right"))
        files = {file.sha256: file.path for file in revisions.files_of(session, pinned.revision)}
    asked: list[str] = []
    look = home.blobs.local_path
    monkeypatch.setattr(home.blobs, "local_path", lambda sha256: (asked.append(files[sha256]), look(sha256))[1])
    assert (pinned.directory(home) / WEIGHTS).is_file()
    assert {path.split("/")[0] for path in asked} == {"right"}
