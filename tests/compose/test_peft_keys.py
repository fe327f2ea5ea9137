"""Names of tensors as the field really has them, and kohya's names there and back."""

from __future__ import annotations

import pytest
import torch

from compose.adapter import Factors, LoraAdapter
from compose.errors import MalformedAdapter
from compose.export import save_adapter
from compose.kohya_names import kohya_name, module_path
from compose.peft_files import read_adapter
from compose.peft_keys import TensorPlace, parse_key


@pytest.mark.parametrize(
    ("key", "path", "part"),
    [
        ("base_model.model.a.q.lora_A.weight", "a.q", "lora_A"),
        ("base_model.model.a.q.lora_B.default.weight", "a.q", "lora_B"),
        ("base_model.model.base_model.model.a.q.lora_A.weight", "a.q", "lora_A"),
        ("module.base_model.model.a.q.lora_A.weight", "a.q", "lora_A"),
        ("base_model.model._orig_mod.a._fsdp_wrapped_module.q.lora_A.weight", "a.q", "lora_A"),
        ("a.q.lora_A.weight", "a.q", "lora_A"),
        ("base_model.model.e.lora_embedding_A.default", "e", "embedding_A"),
        ("base_model.model.q.lora_magnitude_vector.default.weight", "q", "magnitude"),
        ("base_model.model.q.lora_E", "q", "lora_E"),
        ("base_model.model.0.base_layer.out_proj.lora_A.weight", "0.out_proj", "lora_A"),
        ("base_model.vera_A", "", "vera_A"),
        ("base_model.model.q.vera_lambda_b.default", "q", "vera_b"),
        ("base_model.model.e.token_adapter.trainable_tokens_delta", "e", "tokens"),
        ("base_model.model.classifier.modules_to_save.bias", "classifier", "bias"),
        ("base_model.model.classifier.original_module.bias", "classifier", "untrained_bias"),
        ("base_model.model.q.base_layer.bias", "q", "bias"),
        ("unet.down.0.to_q.lora.down.weight", "unet.down.0.to_q", "lora_A"),
        ("unet.down.0.attn1.processor.to_out_lora.up.weight", "unet.down.0.attn1.to_out.0", "lora_B"),
        ("transformer.x.attn.to_q.lora_A.weight", "transformer.x.attn.to_q", "lora_A"),
        ("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0.lora_up.weight",
         "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0", "lora_B"),
        ("lora_te_text_model_encoder_layers_3_self_attn_q_proj.alpha",
         "text_encoder.text_model.encoder.layers.3.self_attn.q_proj", "alpha"),
    ],
)  # fmt: skip
def test_a_name_says_the_module_and_the_part(key: str, path: str, part: str) -> None:
    assert parse_key(key) == TensorPlace(path, part)


def test_names_of_unknown_layers_are_kept_and_strangers_are_none() -> None:
    assert module_path("lora_unet_some_new_thing_1") == "lora_unet_some_new_thing_1"
    assert parse_key("base_model.model.q.lora_C") is None


@pytest.mark.parametrize(
    "path", ["down_blocks.0.attentions.1.proj_in", "text_encoder.text_model.encoder.layers.0.mlp.fc1"]
)
def test_kohyas_names_come_back(path: str) -> None:
    assert module_path(kohya_name(path)) == path


@pytest.mark.parametrize("profile", ["kohya", "diffusers"])
def test_an_export_for_image_tools_reads_back_without_a_config(profile: str, tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "out"
    paths = {"mid_block.attentions.0.proj_in": (), "up_blocks.1.resnets.0.conv1": (3, 3)}
    modules = {
        path: Factors(torch.randn(2 + n, 18), torch.randn(5, 2 + n), 1.5, "conv" if kernel else "linear", kernel)
        for n, (path, kernel) in enumerate(paths.items())
    }
    save_adapter(LoraAdapter("art", modules), folder, profile=profile)
    assert not (folder / "adapter_config.json").exists()
    back = read_adapter(folder)
    for path, factors in modules.items():
        found = back.modules[f"unet.{path}" if profile == "diffusers" else path]
        assert (found.kind, found.kernel, found.scaling) == (factors.kind, factors.kernel, 1.0)
        torch.testing.assert_close(found.delta(), factors.delta())


def test_alphas_of_the_file_are_divided_by_the_rank(tmp_path: object) -> None:
    from pathlib import Path

    from safetensors.torch import save_file

    name, folder = "lora_unet_mid_block_attentions_0_proj_in", Path(str(tmp_path))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensors = {"lora_down.weight": torch.ones(4, 6), "lora_up.weight": torch.ones(5, 4), "alpha": torch.tensor(2.0)}
        save_file({f"{name}.{part}": t.to(dtype) for part, t in tensors.items()}, folder / "x.safetensors")
        assert read_adapter(folder).modules["mid_block.attentions.0.proj_in"].scaling == 0.5
    save_file({f"{name}.alpha": torch.ones(3), f"{name}.lora_down.weight": torch.ones(1, 1)}, folder / "x.safetensors")
    with pytest.raises(MalformedAdapter, match="expected one number"):
        read_adapter(folder)
