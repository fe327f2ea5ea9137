"""Looks at what a new revision holds: refuses what may never be stored, and finds out what its adapters are.

Rules (clients split commits, and people push in steps): pickles and malformed safetensors are always refused. A commit
that brings both files of an adapter must bring a readable adapter. Where only one of them changed and they no longer
fit, the revision is kept but `broken`; where one is missing, or there is nothing to use at all, it is `incomplete`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compose.errors import ComposeError
from compose.peft_config import read_config
from compose.safetensors_header import read_header
from hub.base_lookup import FoundBase
from hub.card_facts import UsageContract
from hub.checkout import path_of, place_file
from hub.errors import BadUpload, HubError
from hub.home import Home
from hub.inspect_adapter import CONFIG, WEIGHTS, inspect_adapter
from hub.local_files import PICKLE_SUFFIXES, is_pickle, pickles_refused
from storage.adapters import AdapterFacts
from storage.revisions import File

SEEN = (CONFIG, WEIGHTS, "README.md", "chat_template.jinja")
"""The files of an adapter folder that its facts depend on."""

FolderKey = tuple[str, tuple[str | None, ...]]
"""An adapter's folder and the sha256 of each of `SEEN` in it: equal keys have equal facts."""


@dataclass(frozen=True)
class Content:
    """What one adapter folder is. `problem` is why it is unusable."""

    facts: AdapterFacts
    base: FoundBase | None = None
    problem: str = ""
    state: str = "ok"
    """"ok", "incomplete" or "broken", as of the revision."""


def adapter_folders(tree: Mapping[str, File]) -> list[str]:
    """Every folder with one of an adapter's two files; "" is the root."""
    return sorted({path.rpartition("/")[0] for path in tree if path.rpartition("/")[2] in (CONFIG, WEIGHTS)})


def folder_key(tree: Mapping[str, File], folder: str) -> FolderKey:
    found = (tree.get(_join(folder, name)) for name in SEEN)
    return folder, tuple(file.sha256 if file else None for file in found)


def is_base_model(tree: Mapping[str, File]) -> bool:
    """config.json and weights in the root."""
    return "config.json" in tree and any(p.endswith(".safetensors") and "/" not in p and p != WEIGHTS for p in tree)


def state_of(tree: Mapping[str, File], contents: Mapping[str, Content | None]) -> tuple[str, str | None]:
    """(state, reason) of a revision. `contents`: adapter folder -> what it is; None: sound, as in the head before."""
    found = [content for content in contents.values() if content is not None]
    for state in ("broken", "incomplete"):
        for one in found:
            if one.state == state:
                return state, one.problem
    if not contents and not is_base_model(tree):
        return "incomplete", "there is no adapter and no base model in it yet"
    return "ok", None


def refuse_bad_files(home: Home, files: Iterable[File]) -> None:
    """BadUpload for a pickle, MalformedAdapter for safetensors that no reader could load."""
    for file in files:
        with one_on_disk(home, file) as path:
            if is_pickle(path, Path(file.path)):
                raise pickles_refused([Path(file.path)])
            if file.path.endswith(".safetensors"):
                read_header(path, owner=file.path)


def inspect_folder(
    home: Home, tree: Mapping[str, File], folder: str, *, owner: str, base: FoundBase | None, brought_both: bool
) -> Content:
    """Facts of the adapter in `folder`. Raises ComposeError or BadUpload only where the commit brought both files."""
    config, weights = tree.get(_join(folder, CONFIG)), tree.get(_join(folder, WEIGHTS))
    seen = {_join(folder, name): name for name in SEEN}
    with on_disk(home, [tree[path] for path in seen if path in tree], names=seen) as directory:
        try:
            if config is None:
                missing = f"{_join(folder, WEIGHTS)} is there, {CONFIG} is not"
                return Content(AdapterFacts(folder=folder, usable=False, refusal=missing), None, missing, "incomplete")
            written = read_config(directory / CONFIG, owner=owner)
            if weights is None and written.peft_type == "LORA":
                missing = f"{_join(folder, CONFIG)} is there, {WEIGHTS} is not"
                facts = AdapterFacts(
                    folder=folder, usable=False, refusal=missing, base_model_name=written.base_model,
                    peft_type=written.peft_type, config_sha256=config.sha256,
                )  # fmt: skip
                return Content(facts, None, missing, "incomplete")
            found = inspect_adapter(directory, folder=folder, name=owner, base=base, given=UsageContract())
            return Content(found.facts, found.base, found.facts.refusal or "")
        except (ComposeError, HubError) as error:
            if brought_both:
                raise
            facts = AdapterFacts(
                folder=folder, usable=False, refusal=error.message, weights_sha256=weights.sha256 if weights else None,
                config_sha256=config.sha256 if config else None,
            )  # fmt: skip
            return Content(facts, None, error.message, "broken")


def base_name_of(home: Home, tree: Mapping[str, File], folder: str) -> str | None:
    """The base model that adapter_config.json names, where it can be read."""
    config = tree.get(_join(folder, CONFIG))
    if config is None:
        return None
    with one_on_disk(home, config) as path:
        try:
            return read_config(path, owner=folder or "adapter").base_model
        except ComposeError:
            return None


@contextmanager
def one_on_disk(home: Home, file: File) -> Iterator[Path]:
    """This file's content at a path, under any name."""
    blob = path_of(home, file)
    if blob is not None:
        yield blob
        return
    with on_disk(home, [file], names={file.path: "content"}) as folder:
        yield folder / "content"


@contextmanager
def on_disk(home: Home, files: Iterable[File], *, names: Mapping[str, str]) -> Iterator[Path]:
    """A folder with these files under other names (path -> name), as links to blobs or copies of remote ones."""
    directory = Path(tempfile.mkdtemp(prefix="mixhub-"))
    try:
        for file in files:
            place_file(home, file, directory / names[file.path])
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def refuse_by_name(path: str) -> None:
    """BadUpload for the name of a pickle, before any byte is sent."""
    if Path(path).suffix.lower() in PICKLE_SUFFIXES:
        raise BadUpload(
            f"'{path}' is a pickle, which runs code when it is loaded; mixhub never stores one",
            remedy="save weights as safetensors, or leave the file out",
        )


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
