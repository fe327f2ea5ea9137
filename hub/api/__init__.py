"""The native API under /api/v1: what the Hugging Face protocol has no words for. Routes only translate."""

from __future__ import annotations

from fastapi import APIRouter

from hub.api import adapters, aliases, compositions

routers: tuple[APIRouter, ...] = (adapters.router, compositions.router, aliases.router)
