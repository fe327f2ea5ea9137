"""GGUF adapters: read back with gguf's reader, and undone by transformers' own reader of GGUF models."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import (
    LlamaTensorProcessor,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from compose.adapter import EMBEDDING, Factors, LoraAdapter
from compose.errors import UnsupportedAdapter
from compose.export import save_adapter

SIZES = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
PROCESSORS = {"llama": LlamaTensorProcessor, "mistral": LlamaTensorProcessor}
"""As transformers has them; the other models are only renamed."""


def new_model(kind: str, *, tied: bool = False) -> nn.Module:
    config = AutoConfig.for_model(kind, **SIZES, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=tied)
    return AutoModelForCausalLM.from_config(config)


def trained(model: nn.Module, *, seed: int = 1) -> LoraAdapter:
    """Random factors of different ranks and scalings on every linear layer."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    linear = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)]
    return LoraAdapter(
        "gguf",
        {
            path: Factors(draw(2 + n % 3, m.in_features), draw(m.out_features, 2 + n % 3), 0.5 + n % 2)
            for n, (path, m) in enumerate(linear)
        },
    )


def read_back(file: Path) -> tuple[GGUFReader, dict[str, Tensor]]:
    """Name of the weight -> alpha / r B A, as llama.cpp computes it."""
    reader = GGUFReader(file)
    alpha = reader.get_field("adapter.lora.alpha").contents()
    found = {tensor.name: torch.from_numpy(tensor.data.copy()).float() for tensor in reader.tensors}
    names = {name.rpartition(".")[0] for name in found}
    assert found.keys() == {f"{name}.{part}" for name in names for part in ("lora_a", "lora_b")}
    return reader, {n: alpha / len(found[f"{n}.lora_a"]) * found[f"{n}.lora_b"] @ found[f"{n}.lora_a"] for n in names}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_transformers_reads_the_changes_where_they_belong(kind: str, dtype: str, tmp_path: Path) -> None:
    model = new_model(kind)
    adapter = trained(model)
    config = model.config.to_dict()
    report = save_adapter(adapter, tmp_path / "out", profile="gguf", dtype=dtype, base=config)
    assert sorted(report.sha256) == ["README.md", "adapter.gguf"]
    assert report.commands[0] in (tmp_path / "out" / "README.md").read_text()
    reader, deltas = read_back(tmp_path / "out" / "adapter.gguf")
    told = [reader.get_field(f"general.{key}").contents() for key in ("type", "architecture")]
    assert told == ["adapter", "llama" if kind == "mistral" else kind]
    processor = PROCESSORS.get(kind, TensorProcessor)(config=config)
    names: dict[str, str] = get_gguf_hf_weights_map(model, TensorProcessor(), model_type=told[1])
    assert {names[name] for name in deltas} == {f"{path}.weight" for path in adapter.modules}
    for name, delta in deltas.items():
        undone = torch.from_numpy(processor.process(delta.numpy(), name).weights)
        expected = adapter.modules[names[name].removesuffix(".weight")].delta()
        tolerance = 1e-5 if dtype == "float32" else 2e-2
        torch.testing.assert_close(undone, expected, rtol=tolerance, atol=tolerance)
    assert (report.max_change > 0) == (dtype != "float32")


def test_bfloat16_is_kept_bit_for_bit(tmp_path: Path) -> None:
    adapter = trained(new_model("qwen2"))
    report = save_adapter(
        adapter, tmp_path / "out", profile="gguf", dtype="bfloat16", base=new_model("qwen2").config.to_dict()
    )
    reader = GGUFReader(tmp_path / "out" / "adapter.gguf")
    [tensor] = [t for t in reader.tensors if t.name == "blk.0.attn_q.weight.lora_a"]
    found = torch.from_numpy(tensor.data.copy()).view(torch.bfloat16)
    expected = adapter.modules["model.layers.0.self_attn.q_proj"].A.bfloat16()
    assert torch.equal(found[: len(expected)], expected) and not found[len(expected) :].any()
    assert report.max_change > 0


def test_what_llama_cpp_has_no_place_for_is_refused_with_the_way_out(tmp_path: Path) -> None:
    model = new_model("llama", tied=True)
    adapter, config = trained(model), model.config.to_dict()

    def refused(one: LoraAdapter, base: Any, said: str) -> None:
        with pytest.raises(UnsupportedAdapter, match=said):
            save_adapter(one, tmp_path / "out", profile="gguf", base=base)

    refused(adapter, None, r"(?s)depend on the base model.*--base")
    refused(adapter, {**config, "model_type": "t5"}, r"(?s)the base is t5.*convert_lora_to_gguf\.py --base")
    refused(adapter, config, "(?s)lm_head has no tensor of its own.*--fused")
    embedding = Factors(torch.ones(1, 32), torch.ones(32, 1), 1.0, EMBEDDING)
    refused(replace(adapter, modules={"model.embed_tokens": embedding}), config, "linear layers only")
    refused(replace(adapter, biases={"model.layers.0.self_attn.q_proj": torch.ones(32)}), config, "holds more")
    assert list(tmp_path.iterdir()) == []


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model("llama")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UnsupportedAdapter, match=r"pip install 'mixhub\[gguf\]'"):
        save_adapter(trained(model), tmp_path / "out", profile="gguf", base=model.config.to_dict())
