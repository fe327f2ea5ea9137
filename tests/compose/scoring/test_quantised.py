"""A base in 8 or 4 bit, by bitsandbytes' own kernels for CPUs, is scored as PEFT's loop scores it on the same base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from compose.adapter import LoraAdapter
from compose.batched_model import BatchedModel
from compose.errors import BaseModelError
from compose.examples import Examples
from compose.scoring import LoadedBase, load_base, loading, make_scorer
from compose.stack import stack_adapters

WEIGHTS = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [1 / 3, 1 / 3, 1 / 3]])
BITS: dict[int, dict[str, Any]] = {4: {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 8: {"load_in_8bit": True}}
NEAR = {4: 2e-3, 8: 2e-2}
"""Of losses, relative. These kernels round what goes into a layer (4 bit on a CPU about as bfloat16 does, 8 bit to one
of 127 steps), so that the last bit of a float32 sum, which depends on its order, can become such a step."""

LLAMA = LlamaConfig(
    vocab_size=14, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, bos_token_id=None, eos_token_id=1,
)  # fmt: skip
T5 = T5Config(
    vocab_size=14, d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2, decoder_start_token_id=0, dropout_rate=0.0
)
MODELS: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "llama": (LlamaForCausalLM, LLAMA, ("q_proj", "v_proj", "down_proj")),
    "t5": (T5ForConditionalGeneration, T5, (".q", ".v")),
}


@pytest.fixture(params=[4, 8])
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str, bits: int, families: Any, tmp_path: Path) -> Path:
    """A base that was saved in 8 or 4 bit, as people find it on a hub."""
    build, config, _ = MODELS[name]
    torch.manual_seed(0)
    build(config).save_pretrained(tmp_path / "whole")
    quantised = build.from_pretrained(
        tmp_path / "whole", quantization_config=BitsAndBytesConfig(**BITS[bits]), dtype=torch.float32
    )
    quantised.save_pretrained(tmp_path / "base")
    families["llama"].base().tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapters_of(families: Any, base: LoadedBase, name: str) -> list[LoraAdapter]:
    family = replace(families["t5"], targets=MODELS[name][2])
    fine = family.adapters(base.model, scalings=(1.0,))
    return [
        replace(one, modules={path: replace(f, A=f.A.float(), B=f.B.float()) for path, f in one.modules.items()})
        for one in fine
    ]


class PeftLoop:
    """One candidate after the other in one adapter slot, one example after the other."""

    def __init__(self, base: LoadedBase, adapters: Sequence[LoraAdapter], targets: Sequence[str]) -> None:
        self.base, self.adapters = base, adapters
        config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=r".*(" + "|".join(targets) + ")$")
        self.model = peft.get_peft_model(base.model, config).eval()

    def load(self, weights: Sequence[float]) -> Any:
        # not by set_peft_model_state_dict: it asks for the state dict of the base too, at which bitsandbytes 0.50 packs
        # 4-bit weights that ran on an AVX512 CPU back with the scales of another block
        for path in self.adapters[0].modules:
            layer = self.model.base_model.model.get_submodule(path)
            for ab, factor in (("A", layer.lora_A), ("B", layer.lora_B)):
                parts = zip(weights, self.adapters, strict=True)
                mixed: Any = sum(w * getattr(adapter.modules[path], ab) for w, adapter in parts)
                factor["default"].weight.data.copy_(mixed)
        return self.model

    def losses(self, weights: Sequence[float], examples: Examples) -> list[float]:
        model = self.load(weights)
        return [loss_of_one(model, self.base, example.input, example.output) for example in examples]


def loss_of_one(model: Any, base: LoadedBase, text: str, wanted: str) -> float:
    ids = list(base.tokenizer(text).input_ids)
    labels = [*base.tokenizer(wanted).input_ids, base.tokenizer.eos_token_id]
    with torch.inference_mode():
        if base.kind == "seq2seq":
            return float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss)
        whole = torch.tensor([ids + labels])
        return float(model(input_ids=whole, labels=torch.tensor([[-100] * len(ids) + labels])).loss)


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
@pytest.mark.parametrize("in_bits", [True, False])
def test_a_quantised_base_is_loaded_to_the_device_that_was_asked_for(
    device: str, in_bits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LlamaConfig(architectures=["LlamaForCausalLM"])
    if in_bits:
        config.quantization_config = BitsAndBytesConfig(load_in_4bit=True)
    config.save_pretrained(tmp_path)
    given: dict[str, Any] = {}

    class Loader:
        @staticmethod
        def from_pretrained(_folder: Path, **options: Any) -> None:
            given.update(options)
            raise OSError("seen enough")

    monkeypatch.setattr(loading, "check_device", lambda _device: None)  # also where there is no second GPU
    monkeypatch.setitem(loading._LOADERS, "causal", Loader)
    with pytest.raises(BaseModelError, match="seen enough"):
        load_base(tmp_path, device=device)
    assert given.get("device_map") == ({"": device} if in_bits else None), "others are moved when they are there"


def test_a_quantised_base_is_scored_as_peft_scores_it(
    folder: Path, name: str, bits: int, families: Any, examples: Examples
) -> None:
    base = load_base(folder)
    adapters = adapters_of(families, base, name)
    scorer = make_scorer(base, examples=examples, adapters=adapters)
    found = scorer.example_losses(WEIGHTS)
    one_by_one = np.concatenate([scorer.example_losses(row[None]) for row in WEIGHTS])
    peft_loop = PeftLoop(load_base(folder), adapters, MODELS[name][2])
    expected = np.array([peft_loop.losses(row, examples) for row in WEIGHTS.tolist()])
    np.testing.assert_allclose(found, expected, rtol=NEAR[bits])
    np.testing.assert_allclose(one_by_one, expected, rtol=NEAR[bits])
    assert np.abs(expected[1:] - expected[0]).max() > 3 * NEAR[bits] * expected.mean(), "the adapters do something"


def test_a_quantised_layer_gives_what_peft_s_gives_on_the_same_input(folder: Path, name: str, families: Any) -> None:
    base = load_base(folder)
    adapters = adapters_of(families, base, name)
    peft_loop = PeftLoop(load_base(folder), adapters, MODELS[name][2])
    stack = stack_adapters(adapters)
    batched = BatchedModel(base.model, stack.module_shapes)
    for path in adapters[0].modules:
        layer = base.model.get_submodule(path)
        assert type(layer).__module__.startswith("bitsandbytes") and layer.weight.dtype in (torch.uint8, torch.int8)
        x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode(), batched.mixed(stack.mix(torch.tensor(WEIGHTS)), candidates=len(WEIGHTS)):
            found = layer(x.repeat(len(WEIGHTS), 1)).chunk(len(WEIGHTS))
        for row, ours in zip(WEIGHTS.tolist(), found, strict=True):
            with torch.inference_mode():
                theirs = peft_loop.load(row).base_model.model.get_submodule(path)(x)
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_texts_of_a_quantised_base_are_those_of_one_candidate_at_a_time(
    folder: Path, name: str, families: Any, examples: Examples
) -> None:
    base = load_base(folder)
    scorer = make_scorer(base, examples=examples, adapters=adapters_of(families, base, name), max_new_tokens=4)
    together = scorer.predictions(WEIGHTS[1:3])
    assert together == [scorer.predictions(row[None])[0] for row in WEIGHTS[1:3]]
