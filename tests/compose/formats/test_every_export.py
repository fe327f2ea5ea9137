"""Every family in every export: loaded by whom it is made for, it computes what PEFT's merge of the original does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compose.adapter import LoraAdapter
from compose.base_shapes import locate_weight
from compose.base_weights import BaseWeights
from compose.errors import UnsupportedAdapter
from compose.export import save_adapter
from compose.fuse import fuse
from compose.kohya_names import kohya_name
from compose.peft_files import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
Base = Callable[[str], nn.Module]
Logits = Callable[[nn.Module], Tensor]

NO_FACTORS = {"LN tuning", "trainable tokens alone"}
OTHER_LAYERS = {"Conv1D", "embedding", "attention", "convolutions", "dora everywhere"}
OTHER_TENSORS = {"lora_bias", "bias=lora_only", "bias=all", "modules_to_save"} | {
    "trainable tokens",
    "tied trainable tokens",
}
IA3 = {"ia3", "ia3 with biases", "ia3 on Conv1D"}
CONVOLUTIONS = {f"{name} on {what}" for name in ("loha", "lokr") for what in ("convolutions", "flat convolutions")}
IMAGE_TOOLS = NO_FACTORS | OTHER_LAYERS | OTHER_TENSORS | IA3
NOT_SERVED = OTHER_LAYERS | OTHER_TENSORS | IA3 | CONVOLUTIONS | {"lokr of whole kernels"}
REFUSED: dict[str, tuple[set[str], str]] = {
    "peft-uniform": (NO_FACTORS, "changes no module by factors"),
    "peft-pattern": (NO_FACTORS, "changes no module by factors"),
    "vllm": (NO_FACTORS | NOT_SERVED, "linear layers only|changes no module"),
    "kohya": (IMAGE_TOOLS, "linear layers and convolutions|changes no module"),
}
REFUSED["diffusers"] = REFUSED["kohya"]
"""Profile -> the families that it cannot hold, and what it says."""


@pytest.fixture
def adapter(family: Any) -> LoraAdapter:
    return read_adapter(family.adapter, base=BaseWeights(family.base))


@pytest.fixture
def truth(family: Any, make_base: Base) -> nn.Module:
    """The base with PEFT's own merged weights."""
    model = make_base(family.kind)
    model.load_state_dict(family.merged)
    return model


def with_peft(model: nn.Module, folder: Path) -> nn.Module:
    from peft import PeftModel

    loaded: nn.Module = PeftModel.from_pretrained(model, folder)
    return loaded


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("profile", ["peft-uniform", "peft-pattern", "vllm"])
def test_peft_loads_it_and_computes_the_same(
    profile: str, family: Any, adapter: LoraAdapter, truth: nn.Module, make_base: Base, logits: Logits, tmp_path: Path
) -> None:
    refused, said = REFUSED[profile]
    if family.name in refused:
        with pytest.raises(UnsupportedAdapter, match=said):
            save_adapter(adapter, tmp_path / "out", profile=profile)
        return
    report = save_adapter(adapter, tmp_path / "out", profile=profile)
    assert report.max_change == 0
    model = make_base(family.kind)
    before = logits(model)
    loaded = with_peft(model, tmp_path / "out")
    close(logits(loaded), logits(truth))
    assert (logits(loaded) - before).abs().max() > 1e-2
    if hasattr(model, "load_adapter"):  # transformers' own way, without a PeftModel around
        plain = make_base(family.kind)
        plain.load_adapter(tmp_path / "out")
        close(logits(plain), logits(truth))
    merged = loaded.merge_and_unload().state_dict()
    assert merged.keys() == family.merged.keys()
    for key, weight in merged.items():
        torch.testing.assert_close(weight, family.merged[key], rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("profile", ["kohya", "diffusers"])
def test_in_the_names_of_image_tools_it_is_the_same_change(
    profile: str, family: Any, adapter: LoraAdapter, tmp_path: Path
) -> None:
    refused, said = REFUSED[profile]
    if family.name in refused:
        with pytest.raises(UnsupportedAdapter, match=said):
            save_adapter(adapter, tmp_path / "out", profile=profile)
        return
    assert save_adapter(adapter, tmp_path / "out", profile=profile).max_change == 0
    back = read_adapter(tmp_path / "out").modules
    named = {
        path if path in back else kohya_name(path) if profile == "kohya" else f"unet.{path}": f
        for path, f in adapter.modules.items()
    }
    assert back.keys() == named.keys()
    for path, factors in named.items():
        torch.testing.assert_close(back[path].delta(), factors.delta(), rtol=1e-5, atol=1e-5)
        assert back[path].kernel == factors.kernel


def test_fused_it_loads_without_peft_and_computes_the_same(
    family: Any, adapter: LoraAdapter, truth: nn.Module, make_base: Base, logits: Logits, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    assert fuse(family.base, adapter, tmp_path / "fused").max_rounding == 0
    model = make_base(family.kind)
    if hasattr(model, "from_pretrained"):
        model = type(model).from_pretrained(tmp_path / "fused")
    else:
        model.load_state_dict(load_file(tmp_path / "fused" / "model.safetensors"))
    close(logits(model), logits(truth))


def test_cut_to_rank_one_it_is_the_best_of_rank_one(
    family: Any, adapter: LoraAdapter, make_base: Base, logits: Logits, tmp_path: Path
) -> None:
    """By Eckart and Young: the dense change of PEFT's merged weights, cut by its largest singular value."""
    if not adapter.modules:
        return
    report = save_adapter(adapter, tmp_path / "out", max_rank=1)
    base, wanted = BaseWeights(family.base), dict(family.merged)
    kept = whole = 0.0
    for path, factors in adapter.modules.items():
        [name] = locate_weight(path, factors.kind, base.shapes)
        change = (family.merged[name] - base.tensor(name)).double()
        u, values, vt = torch.linalg.svd(change.flatten(1), full_matrices=False)
        best = (values[0] * u[:, :1] @ vt[:1]).view(change.shape)
        wanted[name] = base.tensor(name) + best.float()
        kept, whole = kept + float(values[0] ** 2), whole + float(values.square().sum())
        if report.retained is not None:
            assert report.retained[path] == pytest.approx(float(values[0] ** 2 / values.square().sum()), rel=1e-3)
    assert (report.retained_energy or 1.0) == pytest.approx(kept / whole, rel=1e-3)
    expected = make_base(family.kind)
    expected.load_state_dict(wanted)
    close(logits(with_peft(make_base(family.kind), tmp_path / "out")), logits(expected))
    assert read_adapter(tmp_path / "out").max_rank == 1
