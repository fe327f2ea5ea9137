"""The merge methods and their options in the API's schema, read when the schema is: only then is torch loaded."""

from __future__ import annotations

from typing import Any

from compose.refusals import PROMPT_MEAN


def list_methods(schema: dict[str, Any]) -> None:
    """For a field that names a method."""
    from compose.methods import METHODS

    schema["enum"] = [*METHODS, PROMPT_MEAN]


def describe_options(schema: dict[str, Any]) -> None:
    """For a field that holds a method's options."""
    from compose.methods.reference import options_schema

    schema.pop("additionalProperties", None)
    schema |= {"description": "the options of the method", **options_schema()}
