"""Downloads are looked at before they are used: archives bring task files only, pickles tensors only."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hub.errors import BadUpload
from hub.reproduce.public_material import Unreachable, as_safetensors, unpack


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, text in files.items():
            target.writestr(name.replace("__", "/").replace("DOT", "."), text)
    return packed.getvalue()


def test_only_task_files_come_out_of_an_archive_and_never_outside_of_their_folder(tmp_path: Path) -> None:
    content = archive(
        data_bbh__snarksDOT="", data_bbh__snarks__exampleDOTjsonl="a", snarks__zero_shotDOTjsonl="b",
        DOTDOT__snarks__exampleDOTjsonl="evil", data_bbh__DOTDOT__zero_shotDOTjsonl="evil", data_bbh__runDOTpy="evil",
    )  # fmt: skip
    unpack(content, tmp_path / "data")
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"data/snarks/example.jsonl": "a", "data/snarks/zero_shot.jsonl": "b"}


@pytest.mark.parametrize("content", [b"<html>not found</html>", archive(READMEDOTmd="nothing")], ids=["html", "empty"])
def test_an_archive_without_tasks_leaves_nothing_behind(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Unreachable):
        unpack(content, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def module(folder: Path, content: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    torch.save(content, folder / "adapter_model.bin")
    return folder


def test_a_pickled_module_is_read_only_when_allowed_and_kept_as_safetensors(tmp_path: Path) -> None:
    tensors = {"x.lora_A.weight": torch.arange(6.0).reshape(2, 3).T, "x.lora_B.weight": torch.ones(2, 2)}
    folder = module(tmp_path / "old", tensors)
    with pytest.raises(BadUpload, match="is a pickle") as caught:
        as_safetensors(folder, tmp_path / "converted", allowed=False)
    assert "--convert-pickles" in caught.value.remedy and not (tmp_path / "converted").exists()
    converted = as_safetensors(folder, tmp_path / "converted", allowed=True)
    found = load_file(converted / "adapter_model.safetensors")
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert (converted / "adapter_config.json").read_text() == "{}"
    assert as_safetensors(converted, tmp_path / "never", allowed=False) == converted
    assert as_safetensors(folder, tmp_path / "converted", allowed=False) == converted


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_with_anything_but_tensors_is_refused_and_nothing_in_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("code", {"x": Evil()}), ("list", [torch.ones(1)]), ("words", {"x": "text"})):
        with pytest.raises(BadUpload, match="more than tensors"):
            as_safetensors(module(tmp_path / name, content), tmp_path / "converted", allowed=True)
    bare = module(tmp_path / "bare", {})
    (bare / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BadUpload, match="more than tensors"):
        as_safetensors(bare, tmp_path / "converted", allowed=True)
    assert not (tmp_path / "was-run").exists() and not (tmp_path / "converted").exists()
