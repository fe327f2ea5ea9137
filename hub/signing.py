"""Short-lived signed words: upload URLs and Xet tokens carry what they allow, so the server keeps no list of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from hub.errors import BadSignature


def sign(key: bytes, claims: Mapping[str, Any], *, purpose: str, seconds: int) -> str:
    """URL-safe text that holds `claims`, good for this purpose and this long."""
    body = {**claims, "for": purpose, "exp": int(time.time()) + seconds}
    text = base64.urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"{text}.{_mac(key, text)}"


def verify(key: bytes, signed: str, *, purpose: str) -> dict[str, Any]:
    """The claims. Raises BadSignature where it was altered, has expired or is for another purpose."""
    text, _, mac = signed.partition(".")
    if not hmac.compare_digest(_mac(key, text).encode(), mac.encode("utf-8", "replace")):
        raise BadSignature("This upload link or token is not valid.", remedy="Start the upload again.")
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if claims["for"] != purpose:
        raise BadSignature("This upload link or token is for something else.", remedy="Start the upload again.")
    if claims["exp"] < time.time():
        raise BadSignature("This upload link or token has expired.", remedy="Start the upload again.")
    return claims


def short_mac(key: bytes, *words: object) -> str:
    """A keyed digest of words (32 hex digits), for names that nobody else can make up."""
    return _mac(key, json.dumps([str(word) for word in words]))[:32]


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
