"""How a token looks: `mxh_`, 32 random base62 digits (190 bits), 6 base62 digits of their CRC32.

The checksum tells a typo from a revoked token without asking anybody. Random 190 bits need no slow hash at rest.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

PREFIX = "mxh_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"mxh_([0-9A-Za-z]{32})([0-9A-Za-z]{6})", re.ASCII)


def new_token() -> str:
    body = "".join(secrets.choice(_DIGITS) for _ in range(32))
    return f"{PREFIX}{body}{_checksum(body)}"


def is_well_formed(token: str) -> bool:
    """Whether it can be a token of ours at all."""
    match = _FORM.fullmatch(token)
    return match is not None and match.group(2) == _checksum(match.group(1))


def digest(token: str) -> str:
    """What is stored: 64 hex digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        digits = _DIGITS[rest] + digits
    return digits
