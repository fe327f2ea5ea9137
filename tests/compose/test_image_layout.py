"""What is exported in the names of kohya and diffusers is loaded by diffusers itself, and computes the same."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compose.adapter import CONV, Factors, LoraAdapter
from compose.export import save_adapter

LAYERS = ("attn1.to_q", "attn2.to_out.0", "ff.net.2", "conv1", "proj_in")


@pytest.fixture
def diffusers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
        import diffusers.loaders
    return diffusers


def new_unet(diffusers: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    return model.eval()


def image(unet: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    noise, text = (torch.randn(*shape, generator=generator) for shape in ((1, 4, 8, 8), (1, 3, 8)))
    with torch.no_grad():
        found: Tensor = unet(noise, 5, encoder_hidden_states=text).sample
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("profile", ["kohya", "diffusers"])
def test_diffusers_loads_layers_of_different_ranks_and_scalings(profile: str, diffusers: Any, tmp_path: Path) -> None:
    """In kohya's names its loader misses the alphas of attention layers, so that only equal ranks are scaled right."""
    unet = new_unet(diffusers)
    before, generator, modules = image(unet), torch.Generator().manual_seed(1), {}
    for path, layer in unet.named_modules():
        if path.endswith(LAYERS):
            kernel = tuple(getattr(layer, "kernel_size", ()))
            out, inside = layer.weight.flatten(1).shape
            rank = 2 + len(modules) % 2
            a, b = (0.3 * torch.randn(*shape, generator=generator) for shape in ((rank, inside), (out, rank)))
            modules[path] = Factors(a, b, 0.5 + len(modules) % 3, *((CONV, kernel) if kernel else ()))
    report = save_adapter(LoraAdapter("style", modules), tmp_path / "out", profile=profile)
    assert report.rank == 3 and {factors.kind for factors in modules.values()} == {"linear", "conv"}
    with torch.no_grad():
        for path, factors in modules.items():
            weight = unet.get_submodule(path).weight
            weight += factors.delta().view(weight.shape)
    expected = image(unet)
    loader, loaded = diffusers.loaders.StableDiffusionLoraLoaderMixin, new_unet(diffusers)
    [file] = (tmp_path / "out").glob("*.safetensors")
    tensors, alphas = loader.lora_state_dict(str(file), unet_config=loaded.config)
    loader.load_lora_into_unet(tensors, network_alphas=alphas, unet=loaded)
    torch.testing.assert_close(image(loaded), expected, rtol=1e-4, atol=1e-5)
    assert (expected - before).abs().max() > 0.1
