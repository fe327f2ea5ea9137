"""The contract's stores: a folder, and a bucket of a moto server on a free loopback port."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

from storage.blobs import BlobStore, open_blobs


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return open_blobs(tmp_path / "blobs")
    request.getfixturevalue("s3_environment")
    put = urllib.request.Request(f"{os.environ['AWS_ENDPOINT_URL']}/bucket", method="PUT")
    urllib.request.urlopen(put).close()  # making it again is no error
    return open_blobs(f"s3://bucket/{tmp_path.name}")
