"""Every kind of adapter that PEFT writes is either read or refused with its own name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from compose.description import describe_tensors
from compose.families import AS_LORA, TYPES, find_refusal
from compose.peft_config import parse_config
from compose.safetensors_header import TensorHeader

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
DUMPS = SHARED / "peft_dumps"

# file -> what the refusal must call it; `None`: read as it is
EXPECTED: dict[str, str | None] = {
    "adalora": "AdaLoRA",
    "adalora_pruned": "AdaLoRA",
    "adaption_prompt": "adaption prompt",
    "boft": "BOFT",
    "dora": "DoRA",
    "dora_conv": "DoRA",
    "fourierft": "FourierFT",
    "hra": "HRA",
    "ia3": "IA3",
    "ln_tuning": "LN tuning",
    "loha": "LoHa",
    "loha_conv_eff": "LoHa",
    "lokr": "LoKr",
    "lokr_conv_eff": "LoKr",
    "lokr_decompose_both": "LoKr",
    "longlora_style": "modules_to_save",
    "lora_arrow_skip": None,
    "lora_bias_all": "trained biases",
    "lora_bias_lora_only": "trained biases",
    "lora_bias_param": "lora_bias",
    "lora_conv": "embedding",
    "lora_conv_groups": "convolution",
    "lora_embedding": "embedding",
    "lora_embedding_save_false": "embedding",
    "lora_gpt2_conv1d": None,
    "lora_gpt2_embeddings": "embedding",
    "lora_layer_replication": "layer_replication",
    "lora_layers_to_transform": None,
    "lora_llama": None,
    "lora_llama_alllinear": None,
    "lora_llama_regex": None,
    "lora_mha": "nn.MultiheadAttention",
    "lora_mica": None,
    "lora_modules_to_save": "modules_to_save",
    "lora_olora": "OLoRA",
    "lora_orthogonal": None,
    "lora_pissa": "PiSSA",
    "lora_rank_alpha_pattern": None,
    "lora_save_embedding_layers_true": "whole trained weights",
    "lora_seqcls_modules_to_save_auto": "modules_to_save",
    "lora_t5_q_v": None,
    "lora_target_parameters": "target_parameters",
    "lora_tied_embed_lmhead": "embedding",
    "lora_tied_ensure": "embedding",
    "lora_trainable_tokens": "trainable tokens",
    "lora_trainable_tokens_tied": "trainable tokens",
    "lora_vocab_resized": "whole trained weights",
    "multitask_prompt": "Multitask prompt",
    "oft": "OFT",
    "other_frod": "FRoD",
    "other_glora": "GLoRA",
    "other_gralora": "GraLoRA",
    "other_hira": "HiRA",
    "other_lily": "Lily",
    "other_osf": "OSF",
    "other_peanut": "PeanuT",
    "other_pvera": "PVeRA",
    "other_randlora": "RandLoRA",
    "other_tinylora": "TinyLoRA",
    "other_unilora": "UniLoRA",
    "p_tuning": "P-tuning",
    "poly": "Poly",
    "prefix_tuning": "Prefix tuning",
    "prefix_tuning_projection": "Prefix tuning",
    "prompt_tuning": "Prompt tuning",
    "prompt_tuning_t5": "Prompt tuning",
    "rslora": None,
    "trainable_tokens": "Trainable tokens",
    "vblora": "VB-LoRA",
    "vblora_topk_only": "VB-LoRA",
    "vera_no_projection": "VeRA",
    "vera_saved_projection": "VeRA",
}


def dumped(name: str) -> tuple[dict[str, Any], dict[str, TensorHeader]]:
    dump = json.loads((DUMPS / f"{name}.json").read_text())
    tensors = {
        key: TensorHeader(value["dtype"].removeprefix("torch."), tuple(value["shape"]))
        for key, value in dump["tensors"].items()
    }
    return dump["adapter_config"], tensors


@pytest.mark.shared
def test_the_expectations_cover_every_dump() -> None:
    names = {file.stem for file in DUMPS.glob("*.json") if not file.stem.startswith("_")}
    assert names == set(EXPECTED)
    assert len(names) == 72


@pytest.mark.shared
@pytest.mark.parametrize("name", EXPECTED)
def test_every_adapter_that_peft_saved_is_read_or_refused_by_name(name: str) -> None:
    raw, tensors = dumped(name)
    facts = describe_tensors(parse_config(raw, owner=name), tensors, name)
    expected = EXPECTED[name]
    assert facts.supported == (expected is None)
    if expected is None:
        assert len(facts.modules) * 2 == len(tensors)
    else:
        assert facts.refusal is not None
        assert expected in facts.refusal.message
        assert facts.parameter_count > 0


@pytest.mark.shared
def test_every_public_config_is_read_or_refused_by_the_name_of_its_type() -> None:
    rows = json.loads((SHARED / "wild_configs" / "manifest.json").read_text())
    assert len(rows) == 83
    for row in rows:
        config = parse_config((SHARED / "wild_configs" / row["file"]).read_bytes(), owner=row["file"])
        refusal = find_refusal(config, {})
        if row["peft_type"] != "LORA":
            assert refusal == TYPES[row["peft_type"]], row
        else:
            marks = {"bdlora": "BD-LoRA", "dora": "DoRA", "kasa": "KaSA"}
            kind = Path(row["path"]).parent.name.rpartition("-")[2] if "dora" not in row["path"] else "dora"
            assert (refusal.family if refusal else None) == marks.get(kind), row


def test_every_type_that_peft_knows_is_in_the_table() -> None:
    from peft import PeftType

    assert {kind.value for kind in PeftType} == {*TYPES, "LORA"}


def test_where_the_way_out_is_conversion_peft_can_convert() -> None:
    """AS_LORA is promised only for types whose layers say that PEFT can turn them into LoRA."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTunerLayer

    for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items():
        if kind.value in TYPES:
            layers = [layer for layer in _subclasses(BaseTunerLayer) if layer.__module__.startswith(_package(tuner))]
            can = any(layer.supports_lora_conversion is not BaseTunerLayer.supports_lora_conversion for layer in layers)
            if TYPES[kind.value].remedy == AS_LORA:
                assert can, kind


def _package(tuner: type) -> str:
    return tuner.__module__.rpartition(".")[0] + "."


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*(_subclasses(child) for child in cls.__subclasses__()))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init_lora_weights": "pissa_niter_16"}, "PiSSA"),
        ({"init_lora_weights": "corda"}, "CorDA"),
        ({"init_lora_weights": "loftq"}, "LoftQ"),
        ({"init_lora_weights": "lora_ga"}, "LoRA-GA"),
        ({"init_lora_weights": "something new"}, "unknown init_lora_weights"),
        ({"kasa_config": {"x": 1}}, "KaSA"),
        ({"monteclora_config": {"x": 1}}, "MonteCLoRA"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"x": 1}}, "BD-LoRA"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
        ({"arrow_config": {"top_k": 2}}, "Arrow"),
        ({"enable_lora": [True, False]}, "before 0.2"),
        ({"peft_type": "BRAND_NEW"}, "'BRAND_NEW': unknown"),
        ({"peft_type": None}, "without peft_type"),
        ({"peft_type": None, "fine_tune_type": "lora"}, "MLX-LM"),
        ({"peft_type": None, "config": {}, "model_type": "bert"}, "AdapterHub"),
    ],
)
def test_marks_in_the_config_are_named(fields: dict[str, Any], said: str) -> None:
    refusal = find_refusal(parse_config({"peft_type": "LORA", **fields}, owner="a"), {})
    assert refusal is not None and said in refusal.message


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_starts_that_leave_the_base_alone_are_read(start: object) -> None:
    config = parse_config({"peft_type": "LORA", "init_lora_weights": start, "velora_config": {"x": 1}}, owner="a")
    assert find_refusal(config, {}) is None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("base_model.model.lm_head.base_layer.weight", r"copy of a base weight.*lm_head\.base_layer\.weight"),
        ("base_model.model.q.base_layer.bias", "trained biases"),
        ("base_model.model.q.lora_magnitude_vector", "DoRA"),
        ("base_model.model.score.weight", "whole trained weights"),
    ],
)
def test_tensors_that_are_no_factors_are_named(key: str, said: str) -> None:
    refusal = find_refusal(parse_config({"peft_type": "LORA"}, owner="a"), {key: (2,)})
    assert refusal is not None and re.search(said, refusal.message)


def test_a_convolution_is_recognised_by_its_dimensions() -> None:
    refusal = find_refusal(
        parse_config({"peft_type": "LORA"}, owner="a"), {"base_model.model.c.lora_A.weight": (4, 8, 3)}
    )
    assert refusal is not None and "convolution" in refusal.message


@pytest.mark.parametrize(
    "key", ["lora_unet_down.lora_down.weight", "transformer.q.lora.up.weight", "base_model.model.q.lora_down.weight"]
)
def test_names_of_other_tools_are_recognised(key: str) -> None:
    refusal = find_refusal(parse_config({"peft_type": "LORA"}, owner="a"), {key: (2, 2)})
    assert refusal is not None and "kohya or diffusers" in refusal.message
