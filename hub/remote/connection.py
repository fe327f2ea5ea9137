"""One server and who we are there: requests to its native API, and huggingface_hub set up for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from hub import token_format
from hub.address import Address
from hub.errors import ServerRefused, UsageError
from hub.remote.errors import refusal, told_plainly
from hub.settings import Settings

if TYPE_CHECKING:
    from huggingface_hub import HfApi


class Connection:
    """Opens nothing before it is used; connections are huggingface_hub's own."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.url.rstrip("/")
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise UsageError(f"'{settings.url}' is not the URL of a server", remedy="for example http://127.0.0.1:8000")
        self._token = settings.token or None

    def token(self) -> str | None:
        """MIXHUB_TOKEN, or what `mixhub login` or HF_TOKEN left for huggingface_hub. A token of another hub is not
        ours to send."""
        if self._token is None:
            from huggingface_hub import get_token

            found = get_token()
            self._token = found if found and token_format.is_well_formed(found) else ""
        return self._token or None

    @property
    def api(self) -> HfApi:
        from huggingface_hub import HfApi  # slow to import

        return HfApi(endpoint=self.url, token=self.token() or False, library_name="mixhub")

    @contextmanager
    def hugging_face(self) -> Iterator[HfApi]:
        """huggingface_hub for this server; what it raises comes out as our errors."""
        with told_plainly(self.url):
            yield self.api

    def ask(self, method: str, path: str, *, json: Any = None, content: Any = None, **query: Any) -> Any:
        """The answer of /api/v1 as data. Query values that are None or empty are left out."""
        from huggingface_hub import get_session

        headers = {"authorization": f"Bearer {self.token()}"} if self.token() else {}
        params = {key: value for key, value in query.items() if value not in (None, "", False)}
        with told_plainly(self.url):
            response = get_session().request(
                method, f"{self.url}/api/v1{path}", headers=headers, params=params, json=json, content=content,
                timeout=None if method == "POST" else 120,
            )  # fmt: skip
        if response.status_code >= 400:
            raise refusal(self.url, response)
        try:
            return response.json()
        except ValueError as error:
            raise ServerRefused(f"{self.url} does not answer as a mixhub server", remedy="check MIXHUB_URL") from error


def path_of(kind: str, address: Address, *more: str) -> str:
    """`/adapters/ns/name/...`, each word quoted."""
    return "/" + "/".join(quote(word, safe="") for word in (kind, address.namespace, address.repo, *more))
