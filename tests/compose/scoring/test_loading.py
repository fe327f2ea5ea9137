"""Loading a base from a folder: the right kind, frozen, and nothing random in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from compose.errors import BaseModelError, ComposeError, SearchError
from compose.examples import Examples
from compose.scoring import load_base, make_scorer


def save(family: Any, folder: Path) -> Path:
    base = family.base(dtype=torch.float32)
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return folder


def test_a_saved_base_scores_as_it_did_in_memory(family: Any, examples: Examples, tmp_path: Path) -> None:
    loaded = load_base(save(family, tmp_path), dtype="float64")
    assert loaded.kind == family.kind
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    adapters = family.adapters(loaded.model, scalings=(2.0,))
    memory = family.base(dtype=torch.float32)
    memory.model.double()
    weights = np.array([[0.3, -0.5, 1.0]])
    found = make_scorer(loaded, examples=examples, adapters=adapters).example_losses(weights)
    expected = make_scorer(memory, examples=examples, adapters=adapters).example_losses(weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_base_with_a_missing_tensor_is_refused_by_its_name(families: Any, tmp_path: Path) -> None:
    folder = save(families["llama"], tmp_path)
    tensors = load_file(folder / "model.safetensors")
    gone = "model.layers.1.mlp.down_proj.weight"
    save_file({k: v for k, v in tensors.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"1 tensors .* the first is model\.layers\.1\.mlp\.down_proj"):
        load_base(folder)


def test_pickled_weights_are_not_loaded(families: Any, tmp_path: Path) -> None:
    folder = save(families["llama"], tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match="cannot load"):
        load_base(folder)


def test_a_model_that_brings_code_does_not_run_it(families: Any, tmp_path: Path) -> None:
    folder = save(families["llama"], tmp_path)
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BaseModelError, match="cannot load"):
        load_base(folder)


@pytest.mark.parametrize(
    ("device", "error", "said"),
    [
        ("nonsense", SearchError, "is no device"),
        ("", SearchError, "is no device"),
        ("meta", BaseModelError, "cannot be used"),
        ("cuda:99", BaseModelError, "cannot be used"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    families: Any, tmp_path: Path, device: str, error: type[ComposeError], said: str
) -> None:
    folder = save(families["bert"], tmp_path)
    with pytest.raises(error, match=said) as caught:
        load_base(folder, device=device)
    assert "--device cpu" in caught.value.remedy


def test_folders_and_settings_that_are_no_base_are_refused(families: Any, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"no config\.json"):
        load_base(tmp_path / "nowhere")
    folder = save(families["bert"], tmp_path / "bert")
    with pytest.raises(BaseModelError, match="no dtype 'int8'"):
        load_base(folder, dtype="int8")
    config = json.loads((folder / "config.json").read_text())
    for broken in ("{", json.dumps(config | {"model_type": "nosuch"})):
        (folder / "config.json").write_text(broken)
        with pytest.raises(BaseModelError, match="cannot load"):
            load_base(folder)


def test_a_base_that_lies_where_there_is_room_scores_the_same(
    generating_family: Any, examples: Examples, tmp_path: Path
) -> None:
    folder = save(generating_family, tmp_path)
    one, spread = load_base(folder, dtype="float64"), load_base(folder, dtype="float64", device="auto")
    weights = np.array([[0.3, -0.5, 1.0]])
    losses = [
        make_scorer(base, examples=examples, adapters=generating_family.adapters(base.model, scalings=(2.0,)))
        for base in (one, spread)
    ]
    found, expected = (scorer.example_losses(weights) for scorer in losses)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_without_accelerate_a_base_on_several_devices_is_refused_with_the_extra(
    families: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(families["llama"], tmp_path)
    monkeypatch.setattr("compose.device.find_spec", lambda _name: None)
    with pytest.raises(BaseModelError, match="needs accelerate") as caught:
        load_base(folder, device="auto")
    assert "mixhub[gpu]" in caught.value.remedy


def test_without_bitsandbytes_a_base_in_8_bit_is_refused_with_the_extra(
    families: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(families["llama"], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_8bit.is_bitsandbytes_available", lambda: False)
    with pytest.raises(BaseModelError, match="8 or 4 bit") as caught:
        load_base(folder)
    assert "mixhub[gpu]" in caught.value.remedy


@pytest.mark.parametrize(("dtype", "precision"), [("tf32", "high"), ("float32", "highest")])
def test_a_base_in_tf32_has_float32_weights_and_is_scored_with_coarser_products(
    family: Any, examples: Examples, tmp_path: Path, dtype: str, precision: str
) -> None:
    base = load_base(save(family, tmp_path), dtype=dtype)
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    scorer = make_scorer(base, examples=examples, adapters=family.adapters(base.model, scalings=(2.0,)))
    seen = []
    base.model.register_forward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    scorer.example_losses(np.array([[0.3, -0.5, 1.0]]))
    assert seen and set(seen) == {precision} and torch.get_float32_matmul_precision() == "highest"
