"""kohya's names of modules, in which every dot became an underscore: `lora_unet_mid_block_attentions_0_proj_in`.

The dots are put back by the names of the layers in ATOMS (those of diffusers' UNets and transformers, CLIP and T5, and
of the older latent-diffusion code); a name with other layers is kept as it is, and so only fits its like.
Source: kohya-ss/sd-scripts networks/lora.py (names), diffusers loaders/lora_conversion_utils.py (prefixes).
"""

from __future__ import annotations

import re

PREFIXES = {"lora_unet_": "", "lora_te_": "text_encoder.", "lora_te1_": "text_encoder.", "lora_te2_": "text_encoder_2."}
"""kohya's prefix -> the prefix of the path; the UNet or transformer has none."""

ATOMS = """
DenseReluDense EncDecAttention SelfAttention add_embedding add_k_proj add_q_proj add_v_proj attentions attn
attn1 attn2 block conv conv1 conv2 conv_in conv_out conv_shortcut decoder double_blocks down_blocks
downsamplers emb_layers encoder fc1 fc2 ff ff_context img_attn img_mlp img_mod in_layers input_blocks
joint_blocks k k_proj layer layers lin linear linear1 linear2 linear_1 linear_2 mid_block middle_block mlp
modulation net norm norm1 norm1_context o op out_layers out_proj output_blocks proj proj_in proj_mlp proj_out
q q_proj qkv resnets self_attn single_blocks single_transformer_blocks skip_connection text_model
text_projection time_emb_proj time_embed time_embedding to_add_out to_k to_out to_q to_v transformer_blocks
txt_attn txt_mlp txt_mod up_blocks upsamplers v v_proj wi wi_0 wi_1 wo
"""
_LONGEST_FIRST = "|".join(sorted(ATOMS.split(), key=len, reverse=True))
_ATOM = re.compile(rf"(?:{_LONGEST_FIRST}|\d+)(?=_|$)")


def module_path(name: str) -> str:
    """The path with dots that a kohya name stands for; any other name, and one with an unknown layer, as it is."""
    prefix = next((p for p in PREFIXES if name.startswith(p)), None)
    if prefix is None:
        return name
    rest, parts, at = name.removeprefix(prefix), [], 0
    while at < len(rest):
        match = _ATOM.match(rest, at)
        if match is None:
            return name
        parts.append(match[0])
        at = match.end() + 1
    return PREFIXES[prefix] + ".".join(parts)


def kohya_name(path: str) -> str:
    """The name that kohya's tools look for."""
    for prefix, owner in sorted(PREFIXES.items(), key=lambda item: -len(item[1])):
        if owner and path.startswith(owner) and prefix != "lora_te1_":
            return prefix + path.removeprefix(owner).replace(".", "_")
    return "lora_unet_" + path.removeprefix("unet.").replace(".", "_")
