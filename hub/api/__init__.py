"""The native API under /api/v1: what the Hugging Face protocol has no words for. Routes only translate."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hub.api import adapters, aliases, bases, compositions, repos


class Refused(BaseModel):
    """What every refusal says; the headers X-Error-Message and X-Error-Code say it too."""

    error: str = Field(examples=["There is no repo team/sql, or you may not see it."])
    kind: str = Field(default="", description="which error it is; empty for those of the framework")
    message: str = Field(default="", description="the words without the remedy")
    remedy: str = Field(default="", description="the next command or option to try")


_WORDS = {
    400: "malformed, or against a rule: the words say which",
    401: "nobody is signed in, or the token is not valid",
    403: "the caller may not do this",
    404: "there is no such thing, or the caller may not know that there is",
    409: "it exists already, or something else stands in the way",
    413: "too large",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": words} for status, words in _WORDS.items()
}

router = APIRouter(responses=RESPONSES)
for part in (adapters.router, compositions.router, repos.router, aliases.router, bases.router):
    router.include_router(part)
