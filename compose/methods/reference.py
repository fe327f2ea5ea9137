"""What people read of METHODS: the README's table, the end of --help, and the API's schema, all from the same rows.

`python -m compose.methods` prints the table.
"""

from __future__ import annotations

from . import METHODS


def method_table() -> str:
    """All methods as one table in Markdown, for the README."""
    lines = ["| method | level | what it does | options (default) | reference |", "|---|---|---|---|---|"]
    for row in METHODS.values():
        options = ", ".join(f"`{p.name}` ({'none' if p.default is None else p.default})" for p in row.params) or "-"
        lines.append(f"| `{row.name}` | {row.level} | {row.summary} | {options} | {row.reference} |")
    return "\n".join(lines) + "\n"


def method_help() -> str:
    """All methods and their options in lines, for --help."""
    lines = []
    for row in METHODS.values():
        lines.append(f"{row.name}: {row.summary} ({row.reference})")
        lines += [f"    {p.name}: {p.summary}; {p.expected}; default {p.default}" for p in row.params]
    return "\n".join(lines)


def options_schema() -> dict[str, list[dict[str, object]]]:
    """JSON Schema of the options: those of one of the methods, each under its name."""
    return {
        "anyOf": [
            {
                "title": row.name,
                "description": f"{row.summary} ({row.reference})",
                "type": "object",
                "properties": {param.name: param.schema for param in row.params},
                "additionalProperties": False,
            }
            for row in METHODS.values()
        ]
    }
