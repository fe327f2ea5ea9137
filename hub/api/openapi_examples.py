"""Examples for every operation of the OpenAPI document: what a field says of itself, else what its name suggests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

BY_NAME: Mapping[str, Any] = {
    "ns": "team", "name": "sql", "alias": "prod", "text": "sql", "namespace": "team", "base": "org/base",
    "task": "CAUSAL_LM", "task_type": "CAUSAL_LM", "tag": "sql", "tags": ["sql"], "peft_type": "LORA", "licence": "mit",
    "licences": {"team/upper@v1": "mit"},
    "rank": 8, "ranks": [8], "limit": 100, "offset": 0, "revision": "v1", "version": "v1",
    "commit": "5f0c9d3e8b7a61420c3d9f8e7a6b5c4d3e2f1a0b", "actor": "ann", "seq": 3, "at": "2026-11-20T18:22:23Z",
    "method": "lorahub", "address": "team/sql@v1", "base_model": "org/base", "dtype": "float32", "alpha": 16.0,
    "base_identity": "9b74c9897bac770ffc029102a200c5de11fbd2f0d3b4a1a9c5e8f7a6b5c4d3e2", "parameter_count": 294912,
    "target_modules": ["q_proj", "v_proj"], "notes": [], "retained_energy": None, "visibility": "public",
    "usable": True, "refusal": None, "zero_delta": False, "error": "There is no repo team/sql, or you may not see it.",
}  # fmt: skip
_BY_TYPE: Mapping[str, Any] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True, "null": None}
_DEPTH = 8
"""Schemas may hold themselves; an example does not."""


def add_examples(document: Json) -> None:
    """Give every parameter, JSON body and JSON answer of the document an example where it has none."""
    components = document.get("components", {}).get("schemas", {})
    for path in document.get("paths", {}).values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if "examples" not in parameter:
                    parameter.setdefault("example", _example(parameter["schema"], components, parameter["name"]))
            bodies = [operation.get("requestBody", {}), *operation.get("responses", {}).values()]
            for body in bodies:
                content = body.get("content", {}).get("application/json", {})
                if "schema" in content and "examples" not in content:
                    content.setdefault("example", _example(content["schema"], components))


def _example(schema: Json, components: Json, name: str = "", depth: int = 0) -> Any:
    if "$ref" in schema:
        return _example(components[schema["$ref"].rpartition("/")[2]], components, name, depth + 1)
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("example", "const"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    if name in BY_NAME and "properties" not in schema:
        return BY_NAME[name]
    if schema.get("default") is not None:
        return schema["default"]
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return _example(choices[0], components, name, depth)
    kind = schema.get("type")
    if kind == "array":
        return (
            [_example(schema["items"], components, depth=depth + 1)] if depth < _DEPTH and schema.get("items") else []
        )
    if kind == "object" or "properties" in schema:
        fields = schema.get("properties", {}) if depth < _DEPTH else {}
        return {field: _example(inside, components, field, depth + 1) for field, inside in fields.items()}
    return _BY_TYPE.get(kind or "string", "text")
