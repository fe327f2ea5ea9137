"""A LoRA as one GGUF file for llama.cpp, written with the `gguf` package of llama.cpp's authors (extra `gguf`).

That package has the writer and the tables of names; the converter of adapters itself is a script in llama.cpp's
repository (convert_lora_to_gguf.py) and no package. So only those models are written here whose conversion is renaming,
and for Llama and Mistral an order of the rows of q and k (ARCHITECTURES); for others the error says how to call the
script. Layout: `blk.0.attn_q.weight.lora_a` (r, in) and `.lora_b` (out, r), scaled by alpha over r
(src/llama-adapter.cpp, convert_hf_to_gguf.py LlamaModel.permute).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .adapter import LINEAR, Factors, LoraAdapter
from .errors import UnsupportedAdapter

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""model_type of transformers -> architecture of llama.cpp."""
REORDERED = frozenset({"llama"})
"""Architectures whose q and k have the two halves of each head interleaved."""
SCRIPT = "export it as peft-uniform, and run: python llama.cpp/convert_lora_to_gguf.py --base BASE_FOLDER EXPORT_FOLDER"
START = "llama-server --model BASE.gguf --lora path/of/this/folder/adapter.gguf"


def gguf_tensors(
    adapter: LoraAdapter, modules: Mapping[str, Factors], base: Mapping[str, object] | None
) -> dict[str, Tensor]:
    """llama.cpp's names and row order, by the base's config.json; `UnsupportedAdapter` for what they do not have."""
    architecture = _architecture(adapter.name, base)
    other = next((path for path, factors in modules.items() if factors.kind != LINEAR), None)
    if other or not adapter.is_plain or not modules:
        raise UnsupportedAdapter(
            f"{adapter.name}: GGUF adapters hold LoRA on linear layers only, this one {other or 'holds more'}",
            remedy="write the base model with the adapter in it: --fused",
        )
    assert base is not None
    names = _gguf().get_tensor_name_map(_key(architecture), int(str(base.get("num_hidden_layers", 0))))
    tensors: dict[str, Tensor] = {}
    for path, factors in modules.items():
        name = names.get_name(path)
        if name is None or (name == "output" and base.get("tie_word_embeddings")):
            raise UnsupportedAdapter(
                f"{adapter.name}: {path} has no tensor of its own in llama.cpp's {architecture}",
                remedy="write the base model with the adapter in it: --fused",
            )
        b = factors.B
        if architecture in REORDERED and name.endswith((".attn_q", ".attn_k")):
            heads = base["num_attention_heads"]
            b = _interleaved(b, int(str(heads if name.endswith("q") else base.get("num_key_value_heads") or heads)))
        tensors |= {f"{name}.weight.lora_a": factors.A, f"{name}.weight.lora_b": b}
    return tensors


def write_gguf(tensors: Mapping[str, Tensor], file: Path, base: Mapping[str, object] | None) -> None:
    """Write them; alpha is the rank, which is the same for all."""
    gguf = _gguf()
    writer = gguf.GGUFWriter(file, _architecture(file.name, base))
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(next(iter(tensors.values())).shape[0]))
    for name, tensor in tensors.items():
        if tensor.dtype == torch.bfloat16:  # which numpy has not
            raw = tensor.view(torch.uint8).numpy()
            writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(rows: Tensor, heads: int) -> Tensor:
    """Rows (heads x 2 x half, r) as (heads x half x 2, r): llama.cpp rotates neighbours, transformers halves."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


def _architecture(owner: str, base: Mapping[str, object] | None) -> str:
    if base is None:
        raise UnsupportedAdapter(f"{owner}: GGUF's names depend on the base model", remedy="--base FOLDER_OR_NAME")
    found = ARCHITECTURES.get(str(base.get("model_type")))
    if found is None:
        known = ", ".join(ARCHITECTURES)
        raise UnsupportedAdapter(
            f"{owner}: GGUF is written for {known} only, the base is {base.get('model_type')}", remedy=SCRIPT
        )
    return found


def _key(architecture: str) -> Any:
    return next(key for key, name in _gguf().MODEL_ARCH_NAMES.items() if name == architecture)


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise UnsupportedAdapter(
            "the package gguf, which writes GGUF files, is not installed", remedy="pip install 'mixhub[gguf]'"
        ) from error
    return gguf
