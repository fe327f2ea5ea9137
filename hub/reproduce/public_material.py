"""The paper's own material from where it is public: the base model and the 196 modules from a model hub, the task data
from LoRAHub's release. Local copies may take the place of each. The only part of mixhub that downloads models.

Old modules are pickles. They are read by torch's restricted reader (tensors only), kept as safetensors, and only if
the caller says so.
"""

from __future__ import annotations

import io
import re
import shutil
import urllib.request
import zipfile
from pathlib import Path

from hub.errors import BadUpload, HubError
from hub.reproduce.lorahub_bbh import BASE, Material

DATA = "https://github.com/sail-sg/lorahub/releases/download/0.1/data_bbh.zip"
LARGEST_DATA = 500_000_000
CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_MEMBER = re.compile(r"(?:[A-Za-z0-9_-]+/)?([A-Za-z0-9_-]+)/(example|zero_shot)\.jsonl")


class Unreachable(HubError):
    """A model hub or a download that did not answer."""


def module_names() -> tuple[str, ...]:
    """The 196 modules, in the order from which LoRAHub draws."""
    lines = (Path(__file__).parent / "lorahub_modules.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def public_material(
    cache: Path,
    *,
    base: Path | None = None,
    adapters: Path | None = None,
    data: Path | None = None,
    convert_pickles: bool = False,
) -> Material:
    """Material for the real table. `base` and `data` are folders; `adapters` holds a folder of each module, under its
    name without `lorahub/`. What is not given is downloaded, modules when they are drawn."""

    def adapter(name: str) -> Path:
        folder = adapters / name.rpartition("/")[2] if adapters else _from_hub(name, (CONFIG, WEIGHTS, PICKLE))
        return as_safetensors(folder, cache / "modules" / name.rpartition("/")[2], allowed=convert_pickles)

    return Material(
        base=base or _from_hub(BASE, ("*.json", "*.model", "model*.safetensors")),
        modules=module_names(),
        adapter=adapter,
        tasks=data or _task_data(cache / "data_bbh"),
    )


def as_safetensors(folder: Path, converted: Path, *, allowed: bool) -> Path:
    """`folder`, or a copy of it with safetensors in place of a pickle, which may hold tensors only."""
    if (folder / WEIGHTS).is_file():
        return folder
    if (converted / WEIGHTS).is_file():
        return converted
    if not (folder / PICKLE).is_file():
        raise BadUpload(f"{folder} holds neither {WEIGHTS} nor {PICKLE}", remedy="get the whole module")
    if not allowed:
        raise BadUpload(
            f"{folder.name} is a pickle ({PICKLE}), which mixhub does not read",
            remedy="--convert-pickles reads its tensors, and nothing but tensors, and keeps them as safetensors",
        )
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(folder / PICKLE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the pickle made it do; whatever it is, the file is not tensors
        raise BadUpload(f"{folder / PICKLE} holds more than tensors and was not read: {error}") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise BadUpload(f"{folder / PICKLE} holds more than tensors and was not read")
    converted.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / CONFIG, converted / CONFIG)
    tensors = {str(name): value.clone().contiguous() for name, value in loaded.items()}
    partial = converted / f".{WEIGHTS}.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(converted / WEIGHTS)
    return converted


def _from_hub(name: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unreachable(
            f"{name} is neither in the Hugging Face cache nor could it be downloaded: {error}",
            remedy="run it where a model hub can be reached, or give local copies: --base, --adapters, --data",
        ) from error


def _task_data(folder: Path) -> Path:
    if not folder.is_dir():
        try:
            with urllib.request.urlopen(DATA, timeout=60) as answer:
                content = answer.read(LARGEST_DATA + 1)
        except OSError as error:
            raise Unreachable(
                f"the task data could not be downloaded from {DATA}: {error}",
                remedy="unpack it yourself and name the folder: --data data_bbh",
            ) from error
        unpack(content, folder)
    return folder


def unpack(content: bytes, folder: Path) -> None:
    """The tasks' files out of the zip `content` into `folder`, which appears complete or not at all."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if (found := _MEMBER.fullmatch(member.filename)) and member.file_size <= LARGEST_DATA:
                    target = partial / found[1] / f"{found[2]}.jsonl"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
    except zipfile.BadZipFile as error:
        raise Unreachable(f"what came from {DATA} is no zip file", remedy="get it yourself: --data") from error
    if not partial.is_dir():
        raise Unreachable(f"{DATA} holds no tasks", remedy="get them yourself: --data FOLDER")
    partial.replace(folder)
