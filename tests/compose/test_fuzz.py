"""Malformed configs and weights files by the ten thousand: never anything but a clean error, in bounded memory.

Mutations start from real, small adapters of every family, so that most reach deep into the readers. Seeded: a failure
says its number, which alone makes the input again.
"""

from __future__ import annotations

import json
import random
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose.description import describe_tensors
from compose.errors import ComposeError
from compose.layout import read_alphas
from compose.peft_config import parse_config
from compose.peft_files import read_adapter
from compose.prompt_mean import read_prompt
from compose.safetensors_header import read_header

INPUTS = 52_000
READ_EVERY = 40
SECONDS = 90
GROWTH = 200 * 2**20
"""Bytes by which the process may grow; a believed size of a few bytes' file would take far more."""

P = "base_model.model.layer.q"
C = "base_model.model.layer.conv"
BASE = {"layer.q.weight": (5, 6), "layer.conv.weight": (5, 2, 3)}
SEEDS: list[tuple[dict[str, Any], dict[str, list[int]]]] = [
    ({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"x": 3}, "use_rslora": True},
     {f"{P}.lora_A.weight": [2, 6], f"{P}.lora_B.weight": [5, 2], f"{P}.lora_B.bias": [5]}),
    ({"peft_type": "LORA", "r": 2, "modules_to_save": ["head"], "trainable_token_indices": [1, 2]},
     {f"{P}.lora_embedding_A": [2, 6], f"{P}.lora_embedding_B": [5, 2], "base_model.model.head.weight": [3, 3],
      "base_model.model.e.token_adapter.trainable_tokens_delta": [2, 4]}),
    ({"peft_type": "LORA", "r": 2, "use_dora": True, "bias": "all"},
     {f"{P}.lora_A.weight": [2, 6, 3, 3], f"{P}.lora_B.weight": [5, 2, 1, 1],
      f"{P}.lora_magnitude_vector": [1, 5, 1, 1]}),
    ({"peft_type": "ADALORA", "r": 2, "init_r": 4, "lora_alpha": 4},
     {f"{P}.lora_A": [2, 6], f"{P}.lora_B": [5, 2], f"{P}.lora_E": [2, 1]}),
    ({"peft_type": "VERA", "r": 2, "projection_prng_key": 3},
     {f"{P}.vera_lambda_b": [5], f"{P}.vera_lambda_d": [2], "base_model.vera_A": [2, 6], "base_model.vera_B": [5, 2]}),
    ({"peft_type": "LOHA", "r": 2, "alpha": 4},
     {f"{P}.hada_{x}": s for x, s in (("w1_a", [5, 2]), ("w1_b", [2, 6]), ("w2_a", [5, 2]), ("w2_b", [2, 6]))}),
    ({"peft_type": "LOKR", "r": 2, "alpha": 4},
     {f"{P}.lokr_w1": [2, 2], f"{P}.lokr_w2_a": [3, 2], f"{P}.lokr_w2_b": [2, 3]}),
    ({"peft_type": "LOHA", "r": 2, "alpha": 4},
     {f"{C}.hada_{x}": s for x, s in (("w1_a", [5, 2]), ("w1_b", [2, 6]), ("w2_a", [5, 2]), ("w2_b", [2, 6]))}),
    ({"peft_type": "LOKR", "r": 2, "alpha": 4}, {f"{C}.lokr_w1": [1, 2], f"{C}.lokr_w2": [5, 1, 3]}),
    ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}, {"prompt_embeddings": [2, 6]}),
    ({"peft_type": "IA3", "feedforward_modules": []}, {f"{P}.ia3_l": [5, 1]}),
]  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 1, 3, 10**30, 2**63, -(2**63), 1e400, 1.5, "", "LORA", "pissa", "(((a+)+)+)$", "\ud800", "\0",
    [], [[]], {}, {"a": 1}, {"": -1}, {"(": 2}, [1, "x"], "a" * 5000,
]  # fmt: skip


def weights_bytes(shapes: dict[str, list[int]]) -> bytes:
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\0\0\x80\x3f" * (at // 4)


def mutate(value: Any, dice: random.Random) -> Any:
    """A copy of JSON data with something in it changed."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        kept = {k: v for k, v in value.items() if k != key}
        how = dice.random()
        if how < 0.1:
            return kept
        if how < 0.2:
            return {**kept, key + dice.choice([".weight", "_A", ".", "x", ".base_layer.bias"]): value[key]}
        return {**kept, key: mutate(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        at = dice.randrange(len(value))
        return [*value[:at], mutate(value[at], dice), *value[at + 1 :]]
    return dice.choice([0, 1, 7, value + 1, 2**40]) if type(value) is int and dice.random() < 0.7 else dice.choice(ODD)


def broken(number: int) -> tuple[bytes, bytes]:
    """Config and weights number `number`: one or both of them mutated, as data or as bytes."""
    dice = random.Random(number)
    config, shapes = dice.choice(SEEDS)
    text, weights = json.dumps(config).encode(), weights_bytes(shapes)
    way = dice.randrange(6)
    if way in (0, 5):
        changed = mutate(mutate(config, dice), dice)
        text = json.dumps(changed).encode("utf-8", "surrogatepass")
    if way in (1, 5):
        length = struct.unpack("<Q", weights[:8])[0]
        raw = json.dumps(mutate(json.loads(weights[8 : 8 + length]), dice)).encode("utf-8", "surrogatepass")
        weights = struct.pack("<Q", len(raw)) + raw + weights[8 + length :]
    if way == 2:
        weights = flip(weights, dice)
    if way == 3:
        text = flip(text, dice)
    if way == 4:
        weights = weights[: dice.randrange(len(weights))] + dice.randbytes(dice.randrange(4))
    return text, weights


def flip(raw: bytes, dice: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def describe_bytes(config: bytes, weights: Path) -> None:
    parsed = parse_config(config, owner="a")
    headers = read_header(weights)
    describe_tensors(parsed, headers, "a", alphas=read_alphas(weights, headers, "a"), base_shapes=BASE)


def expect_clean(number: int, work: Callable[[], object]) -> bool:
    """Whether input `number` was refused; any error that is not ours fails, with the number."""
    try:
        work()
    except ComposeError as error:
        assert error.message and len(error.message) < 20_000
        return True
    except Exception as error:
        pytest.fail(f"input {number} gives {type(error).__name__}: {error}")
    return False


def test_malformed_adapters_give_clean_errors_only(tmp_path: Path) -> None:
    weights = tmp_path / "adapter_model.safetensors"
    began, before, refused = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, 0
    for number in range(INPUTS):
        text, raw = broken(number)
        weights.write_bytes(raw)
        refused += expect_clean(number, lambda text=text: describe_bytes(text, weights))
        if number % READ_EVERY == 0:
            (tmp_path / "adapter_config.json").write_bytes(text)
            expect_clean(number, lambda: read_adapter(tmp_path))
            expect_clean(number, lambda: read_prompt(tmp_path))
    assert refused > INPUTS * 0.4  # else the mutations break nothing
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GROWTH
    assert time.process_time() - began < SECONDS
