"""Damage on a server, and on the mirror of one, as the command line meets it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]
WEIGHTS = "adapter_model.safetensors"


def flip(place: Path, content: bytes) -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    path = place / "blobs" / sha256[:2] / sha256
    with path.open("r+b") as file:
        file.write(bytes([content[0] ^ 1]))
    return path


def test_a_pull_says_what_is_damaged_and_publishing_again_heals_it(
    mixhub: Run, on_server: Any, write_lora: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_lora("hurt", seed=99)
    assert mixhub("publish", folder, "hurt/a").code == 0
    blob = flip(on_server.home, (folder / WEIGHTS).read_bytes())
    ran = mixhub("pull", "hurt/a", tmp_path / "out")
    said = "".join(ran.err.split())
    assert ran.code == 1 and blob.name in said and WEIGHTS in said and "mixhubdbcheck--deep--repair" in said
    assert not (tmp_path / "out" / WEIGHTS).exists()
    assert mixhub("publish", folder, "hurt/a").code == 0
    assert mixhub("pull", "hurt/a", tmp_path / "out").code == 0
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_what_is_damaged_on_the_mirror_is_fetched_again(
    mixhub: Run, on_server: Any, home_folder: Path, published: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    del on_server
    folder = published("mirrored")["mirrored/a"]
    assert mixhub("export", "mirrored/a", "--to", tmp_path / "one").code == 0
    (mirror,) = (home_folder / "remotes").iterdir()
    blob = flip(mirror, (folder / WEIGHTS).read_bytes())
    assert mixhub("export", "mirrored/a", "--to", tmp_path / "two").code == 0
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()
    assert blob.read_bytes() == (folder / WEIGHTS).read_bytes()
