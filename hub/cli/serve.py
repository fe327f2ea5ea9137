"""`serve`: the hub over HTTP. `login`: sign this machine's Hugging Face clients in."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from typing import Annotated

import typer

from hub.actions import accounts as account_actions
from hub.cli.output import Output
from hub.errors import HubError, UsageError
from hub.home import home_of, opened_database, set_up
from hub.settings import Settings
from storage.errors import DatabaseLost

_KEEP = """
import sys
from huggingface_hub import constants
constants.ENDPOINT = sys.argv[1]
from huggingface_hub import login
login(token=sys.stdin.read(), skip_if_logged_in=False)
"""
"""The client's own `login` asks the server once more, at the address that was set when it was imported."""


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(login)


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Serve this home: stock Hugging Face clients use it with HF_ENDPOINT=http://HOST:PORT

    The first start makes the account `admin` and prints its token, once.
    """
    from hub.serving import web_server  # the web server is needed here only

    out = Output(as_json=False)
    settings = Settings()
    with opened_database(settings) as engine:
        home = home_of(settings, engine)
        set_up(home)
        token = account_actions.first_start(home)
    if token is not None:
        out.say("The account [bold]admin[/] was made. Its token, which is not shown again:")
        out.result(None, token)
    shown = f"[{host}]" if ":" in host else host
    out.say(f"serving {settings.directory} on http://{shown}:{port}   (HF_ENDPOINT=http://{shown}:{port})")
    if not _is_loopback(host) and not settings.public_url.startswith("https://"):
        out.warn("this is reachable from other machines without encryption; put a TLS proxy before it")
    web_server(settings, host=host, port=port, on_lost=_die).run()


def login(
    url: Annotated[str, typer.Argument(help="Of the server, for example http://127.0.0.1:8000")],
    *,
    token: Annotated[str, typer.Option(prompt="Token", hide_input=True, help="As `mixhub token create` printed it.")],
) -> None:
    """Check a token against a server and keep it where Hugging Face clients look for it."""
    from httpx2 import TransportError  # slow to import, like the next ones
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    out, url = Output(as_json=False), url.rstrip("/")
    try:
        who = HfApi(endpoint=url, token=token).whoami()
    except HfHubHTTPError as error:
        remedy = "mixhub token create --user NAME --role write"
        raise UsageError(f"{url} does not take this token", remedy=remedy) from error
    except TransportError as error:
        raise HubError(f"{url} cannot be reached: {error}", remedy="is `mixhub serve` running there?") from error
    done = subprocess.run([sys.executable, "-c", _KEEP, url], input=token, text=True, capture_output=True)
    if done.returncode:
        raise HubError(f"the token could not be kept: {done.stderr.strip().rpartition(chr(10))[2]}")
    if get_token() != token:
        out.warn("another token goes before this one: the variable HF_TOKEN is set")
    out.result(None, f"signed in as {who['name']}; set HF_ENDPOINT={url}")


def _die(error: DatabaseLost) -> None:
    """As by kill -9, for which every write is ready: whatever else runs must write no more, nor close the database."""
    os.write(2, f"mixhub serve: FATAL: {error.message} {error.remedy}\n".encode())
    os._exit(1)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
