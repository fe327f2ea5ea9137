"""Where a home lives. The only place that reads environment variables; everything else is handed a `Settings`."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`MIXHUB_HOME`, `MIXHUB_DATABASE_URL` and `MIXHUB_BLOBS_URL`.

    The default home is self-contained: `mixhub.sqlite` and `blobs/` inside it. Either can be moved by URL
    (`postgresql+psycopg://...`, `s3://bucket/prefix`).
    """

    model_config = SettingsConfigDict(env_prefix="MIXHUB_", env_ignore_empty=True, extra="ignore")

    home: Path = Path("~/.mixhub")
    database_url: str = ""
    blobs_url: str = ""

    @property
    def directory(self) -> Path:
        return self.home.expanduser().absolute()

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.directory / 'mixhub.sqlite'}"

    @property
    def blobs(self) -> str:
        return self.blobs_url or str(self.directory / "blobs")
