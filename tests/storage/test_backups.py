"""What a dump's programs are told, and what a manifest may be."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import make_url

from storage.backups.manifest import Manifest, StoredDatabase, read_manifest
from storage.backups.postgres import _address
from storage.errors import BadBackup


def test_a_password_goes_by_a_file_that_only_its_owner_reads() -> None:
    url = make_url("postgresql+psycopg://me@there:5433/name?sslmode=require").set(password="pass:wo\\rd")
    with _address(url) as address:
        parts = urlsplit(address)
        assert (parts.scheme, parts.username, parts.password) == ("postgresql", "me", None)
        assert (parts.hostname, parts.port, parts.path) == ("there", 5433, "/name") and "wo" not in address
        query = parse_qs(parts.query)
        file = Path(query["passfile"][0])
        assert query["sslmode"] == ["require"] and file.read_text() == "*:*:*:*:pass\\:wo\\\\rd\n"
        assert file.stat().st_mode & 0o077 == 0
    assert not file.exists()
    with _address(make_url("postgresql://me@/name?host=/run/there")) as address:
        assert "passfile" not in address and parse_qs(urlsplit(address).query) == {"host": ["/run/there"]}


def test_a_manifest_is_read_as_it_was_written() -> None:
    database = StoredDatabase("mixhub.sqlite", 7, "a" * 64)
    manifest = Manifest("2026-01-01T00:00:00+00:00", "1.0", "sqlite", "0006", (database,), {"b" * 64: 3, "c" * 64: 4})
    assert read_manifest(manifest.as_text(), where="there") == manifest and manifest.blob_bytes == 7
    with pytest.raises(BadBackup, match="there is damaged"):
        read_manifest(manifest.as_text()[:-10], where="there")
