"""What a folder on this machine would publish: its files, checked before a byte is stored.

Knows nothing of adapters or of the registry. Never follows a link out of the folder, except into the blob folder of the
Hugging Face cache (or mixhub checkout) that the folder itself is a snapshot of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from hub.errors import BadUpload

IGNORED_NAMES = frozenset({".git", ".cache", "__pycache__", ".DS_Store", ".ipynb_checkpoints", ".gitignore"})
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy_pickle"})
_PICKLE_MAGIC = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


@dataclass(frozen=True)
class LocalFile:
    path: str
    """Inside the repo, with forward slashes."""
    source: Path
    size: int


def collect_files(directory: Path, *, into: str = "", exclude: Sequence[str] = ()) -> list[LocalFile]:
    """Every file below `directory` in path order, placed under the repo folder `into`.

    `exclude` are shell patterns on the relative path or the file name. `BadUpload` for a pickle, a link that leads out
    of the folder, or when nothing is left.
    """
    if not directory.is_dir():
        raise BadUpload(f"'{directory}' is not a folder", remedy="give the folder that holds adapter_config.json")
    root = directory.resolve()
    found, pickles = [], []
    for source in sorted(directory.rglob("*")):
        relative = source.relative_to(directory)
        if IGNORED_NAMES.intersection(relative.parts) or _excluded(relative, exclude):
            continue
        if source.is_dir() and not source.is_symlink():
            continue
        _refuse_links_out(source, root)
        if _is_pickle(source, relative):
            pickles.append(relative)
            continue
        path = "/".join((*(p for p in into.split("/") if p), *relative.parts))
        found.append(LocalFile(path=path, source=source, size=source.stat().st_size))
    if pickles:
        raise BadUpload(
            f"{', '.join(p.as_posix() for p in pickles)}: a pickle runs code when loaded; mixhub never stores one",
            remedy="save weights as safetensors, or leave out: "
            + " ".join(f"--exclude '{name}'" for name in sorted({p.name for p in pickles})),
        )
    if not found:
        raise BadUpload(f"'{directory}' holds no files to publish", remedy="check the folder and --exclude")
    return found


def _excluded(relative: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch(relative.as_posix(), p) or fnmatch(relative.name, p) for p in patterns)


def _refuse_links_out(source: Path, root: Path) -> None:
    try:
        target = source.resolve(strict=True)
    except OSError as error:
        raise BadUpload(f"'{source}' cannot be read: {error}") from error
    snapshot_blobs = root.parent.parent / "blobs"
    if not target.is_file():
        what = "a link to a folder" if source.is_dir() else "not a regular file"
        raise BadUpload(f"'{source}' is {what}", remedy="put a copy in its place, or add --exclude")
    if not (target.is_relative_to(root) or target.is_relative_to(snapshot_blobs)):
        raise BadUpload(f"'{source}' is a link that leads out of the folder", remedy="copy the file or add --exclude")


def _is_pickle(source: Path, relative: Path) -> bool:
    with source.open("rb") as file:
        start = file.read(4096)
    zipped_pickle = start.startswith(b"PK\x03\x04") and b"/data.pkl" in start
    return relative.suffix.lower() in PICKLE_SUFFIXES or start.startswith(_PICKLE_MAGIC) or zipped_pickle
