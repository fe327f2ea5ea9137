"""Where a home lives. The only place that reads environment variables; everything else is handed a `Settings`."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`MIXHUB_HOME`, `MIXHUB_DATABASE_URL`, `MIXHUB_BLOBS_URL`, `MIXHUB_URL`, and what a server goes by.

    The default home is self-contained: `mixhub.sqlite` and `blobs/` inside it. Either can be moved by URL
    (`postgresql+psycopg://...`, `s3://bucket/prefix`).
    """

    model_config = SettingsConfigDict(env_prefix="MIXHUB_", env_ignore_empty=True, extra="ignore")

    home: Path = Path("~/.mixhub")
    database_url: str = ""
    blobs_url: str = ""
    url: str = ""
    """Of a server that commands and the client act on, instead of on the home; empty: none."""
    token: str = ""
    """For that server; empty: what `mixhub login` or HF_TOKEN left."""

    public_url: str = ""
    """Of the server, as clients reach it, with a path prefix if there is one; empty: as the request says."""
    trusted_proxies: str = "127.0.0.1,::1"
    """Addresses whose X-Forwarded-* headers are believed."""
    page_size: int = 1000
    """Entries per page of listings."""
    max_file_bytes: int = 50 * 2**30
    """Of one file."""
    max_line_bytes: int = 96 * 2**20
    """Of one line of a commit: a file that comes inside the commit, in base64."""
    namespace_bytes: int = 0
    """How much one namespace may upload in all; 0: no limit."""
    multipart_bytes: int = 5 * 2**30
    """LFS files above this are uploaded in parts of this size."""
    redirect_downloads: bool = False
    """Send clients to signed addresses of the blob store (S3), which they must be able to reach."""
    accel_prefix: str = ""
    """Let nginx send local blobs: the internal location whose root is the blobs' folder, such as /blobs."""
    requests_per_minute: int = 0
    """Of one token, or of one address without a token, in each server process; 0: no limit."""
    upload_seconds: int = 3600
    """How long signed upload URLs and Xet tokens are good for."""

    scrub_bytes_per_second: int = 10 * 2**20
    """How fast a server reads all blobs in the background to see whether they are sound; 0: not at all."""

    upstream: str = ""
    """Endpoint of a hub to ask for public repos that are not here; empty: none."""
    upstream_allow: str = ""
    """Which of its repos: names or patterns, `google/*, org/name`; empty: none."""
    upstream_hosts: str = "*.huggingface.co,*.hf.co"
    """Hosts beside its own that it may redirect downloads to."""
    upstream_bytes: int = 200 * 2**30
    """How much of it is kept here."""
    upstream_fresh_seconds: int = 60
    """How long its branches are believed to be where they were seen."""

    @property
    def directory(self) -> Path:
        return self.home.expanduser().absolute()

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.directory / 'mixhub.sqlite'}"

    @property
    def blobs(self) -> str:
        return self.blobs_url or str(self.directory / "blobs")
