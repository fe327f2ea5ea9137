"""Base plus adapter in one folder gives what PEFT gives with the adapter beside the base."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compose.adapter import Factors, LoraAdapter, Replacement
from compose.base_model import fingerprint
from compose.errors import BaseModelError, IncompatibleAdapters, OutputExists
from compose.fuse import fuse
from compose.peft_files import read_adapter

Save = Callable[..., Path]


@pytest.fixture
def save(tiny_model: Callable[[str], nn.Module], tmp_path: Path) -> Save:
    def write(kind: str, dtype: torch.dtype = torch.float32, **options: object) -> Path:
        tiny_model(kind).to(dtype).save_pretrained(tmp_path / f"base-{kind}", **options)
        return tmp_path / f"base-{kind}"

    return write


@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2"])
def test_the_fused_model_has_the_logits_of_pefts_merge(
    kind: str,
    save: Save,
    peft_adapter: Callable[..., Path],
    tiny_model: Callable[[str], nn.Module],
    logits: Callable[[nn.Module], Tensor],
    tmp_path: Path,
) -> None:
    from peft import PeftModel

    directory = peft_adapter(kind, r=3, lora_alpha=5, use_rslora=True)
    expected = logits(PeftModel.from_pretrained(tiny_model(kind), directory).merge_and_unload())
    report = fuse(save(kind), read_adapter(directory), tmp_path / "fused")
    fused = type(tiny_model(kind)).from_pretrained(tmp_path / "fused").eval()
    torch.testing.assert_close(logits(fused), expected, rtol=1e-5, atol=1e-5)
    assert (logits(tiny_model(kind)) - expected).abs().max() > 1e-3
    assert report.max_rounding == 0.0
    assert set(report.changed) == {f"{path}.weight" for path in read_adapter(directory).modules}
    assert fingerprint(tmp_path / "fused").digest == fingerprint(tmp_path / f"base-{kind}").digest


def test_the_sum_is_rounded_once_and_other_tensors_are_untouched(
    save: Save, peft_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = read_adapter(peft_adapter("llama", r=2))
    base = save("llama", torch.bfloat16, max_shard_size="10KB")
    report = fuse(base, adapter, tmp_path / "fused")
    names = {file.name for file in base.iterdir()}
    assert {file.name for file in (tmp_path / "fused").iterdir()} == names
    largest = 0.0
    for shard in base.glob("*.safetensors"):
        before, after = load_file(shard), load_file(tmp_path / "fused" / shard.name)
        for name, weight in before.items():
            expected = weight.float()
            if name in report.changed:
                expected = expected + adapter.modules[name.removesuffix(".weight")].delta()
                largest = max(largest, (after[name].float() - expected).abs().max().item())
            assert torch.equal(after[name], expected.bfloat16())
    assert report.max_rounding == largest > 0


def test_copies_of_the_old_weights_are_left_out(save: Save, peft_adapter: Callable[..., Path], tmp_path: Path) -> None:
    base = save("llama")
    (base / "pytorch_model.bin").write_bytes(b"old")
    (base / "tokenizer.json").write_text("{}")
    fuse(base, read_adapter(peft_adapter("llama", r=2)), tmp_path / "fused")
    names = {file.name for file in (tmp_path / "fused").iterdir()}
    assert "tokenizer.json" in names and "pytorch_model.bin" not in names


def test_what_does_not_fit_is_refused_and_nothing_is_written(
    save: Save, peft_adapter: Callable[..., Path], random_adapter: Callable[..., LoraAdapter], tmp_path: Path
) -> None:
    base = save("llama")
    adapter = read_adapter(peft_adapter("llama", r=2))
    with pytest.raises(IncompatibleAdapters, match="module a has 0 tensors in the base"):
        fuse(base, random_adapter(1), tmp_path / "fused")
    path = "model.layers.0.self_attn.q_proj"
    with pytest.raises(IncompatibleAdapters, match=r"q_proj\.weight of the base has shape \(16, 16\), .* \(5, 7\)"):
        fuse(base, random_adapter(1, paths=(path,)), tmp_path / "fused")
    tied = replace(adapter, modules={"lm_head": random_adapter(1, sizes=(16, 64)).modules["a"]})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "t5", "tie_word_embeddings": True}))
    with pytest.raises(IncompatibleAdapters, match="differently, which are tied; a t5"):
        fuse(base, tied, tmp_path / "fused")
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"bits": 4}}))
    with pytest.raises(BaseModelError, match=r"(?s)is quantised.*full-precision"):
        fuse(base, adapter, tmp_path / "fused")
    assert not [entry for entry in tmp_path.iterdir() if "fused" in entry.name]


def test_an_existing_model_is_not_overwritten(save: Save, peft_adapter: Callable[..., Path]) -> None:
    base = save("llama")
    with pytest.raises(OutputExists, match="not empty"):
        fuse(base, read_adapter(peft_adapter("llama", r=2)), base)


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    """A Llama whose head is its embedding, in several shards."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    model.save_pretrained(tmp_path / "tied", max_shard_size="10KB")
    return tmp_path / "tied"


@pytest.mark.parametrize("target", ["lm_head", "model.embed_tokens"])
def test_a_tied_head_becomes_one_of_its_own_where_the_two_change_differently(
    tied: Path, target: str, logits: Callable[[nn.Module], Tensor], tmp_path: Path
) -> None:
    """The truth is the unmerged adapter: it changes one use of the shared tensor. PEFT's merge changes both."""
    from transformers import LlamaForCausalLM

    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 64, generator=generator), torch.randn(16, 2, generator=generator)
    embedding = target.endswith("embed_tokens")
    factors = Factors(a, b, 0.5, "embedding") if embedding else Factors(b.T, a.T, 0.5)
    report = fuse(tied, LoraAdapter("one", {target: factors}), tmp_path / "fused")
    assert report.untied
    expected = LlamaForCausalLM.from_pretrained(tied)
    with torch.no_grad():
        changed = expected.model.embed_tokens.weight + 0.5 * (b @ a).T
        kept = nn.Parameter(expected.model.embed_tokens.weight.clone())
        expected.lm_head.weight = kept if embedding else nn.Parameter(changed)
        expected.model.embed_tokens.weight = nn.Parameter(changed) if embedding else kept
    fused = LlamaForCausalLM.from_pretrained(tmp_path / "fused").eval()
    torch.testing.assert_close(logits(fused), logits(expected.eval()), rtol=1e-4, atol=1e-5)
    assert json.loads((tmp_path / "fused" / "config.json").read_text())["tie_word_embeddings"] is False
    index = json.loads((tmp_path / "fused" / "model.safetensors.index.json").read_text())
    held = {name: file.name for file in (tmp_path / "fused").glob("*.safetensors") for name in load_file(file)}
    assert index["weight_map"] == held and "lm_head.weight" in held


def test_a_tied_head_changed_alike_stays_tied(tied: Path, tmp_path: Path) -> None:
    a, b = torch.randn(2, 64), torch.randn(16, 2)
    modules = {"model.embed_tokens": Factors(a, b, 0.5, "embedding"), "lm_head": Factors(b.T, a.T, 0.5)}
    report = fuse(tied, LoraAdapter("one", modules), tmp_path / "fused")
    assert not report.untied and report.changed == ("model.embed_tokens.weight",)


def test_a_grown_vocabulary_is_written_and_said(tied: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    grown = Replacement(torch.randn(70, 16), "embedding")
    adapter = LoraAdapter("one", {}, replaced={"model.embed_tokens.weight": grown})
    report = fuse(tied, adapter, tmp_path / "fused")
    assert not report.untied
    fused = LlamaForCausalLM.from_pretrained(tmp_path / "fused")
    assert fused.config.vocab_size == 70 and torch.equal(fused.lm_head.weight, grown.values)


def test_blocks_of_any_size_give_the_same_bytes(
    save: Save, peft_adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter = save("gpt2", torch.bfloat16), read_adapter(peft_adapter("gpt2", r=2))
    whole = fuse(base, adapter, tmp_path / "whole")
    monkeypatch.setattr("compose.shard_stream.BLOCK", 50)
    monkeypatch.setattr("compose.shard_stream.COPY", 7)
    pieces = fuse(base, adapter, tmp_path / "pieces")
    assert whole.max_rounding == pytest.approx(pieces.max_rounding, rel=1e-3) and whole.max_rounding > 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "pieces"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-2, atol=1e-3)
        assert name in whole.changed or torch.equal(weight, two[name])


def test_a_sum_that_the_dtype_cannot_hold_is_refused_and_nothing_is_written(save: Save, tmp_path: Path) -> None:
    huge = Factors(torch.full((1, 16), 1e4), torch.full((16, 1), 1e4))
    with pytest.raises(BaseModelError, match="cannot hold"):
        fuse(
            save("llama", torch.float16), LoraAdapter("big", {"model.layers.0.self_attn.q_proj": huge}), tmp_path / "x"
        )
    assert not (tmp_path / "x").exists()
