"""`demo`: the main job on what ships with the package."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    del app
