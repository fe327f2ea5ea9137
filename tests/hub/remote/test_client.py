"""`Hub` on a server: which one, as whom, and what happens when it is not there or does not want to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hub.actions.accounts import create_token, create_user
from hub.client import Hub
from hub.errors import (
    BadUpload,
    HubError,
    InvalidToken,
    RepoNotFound,
    ServerRefused,
    ServerUnreachable,
    UnknownBase,
    UsageError,
)
from hub.home import open_home
from hub.local_hub import LocalHub
from hub.remote.connection import Connection
from hub.remote.errors import refusal
from hub.remote.hub import RemoteHub
from hub.settings import Settings
from hub.token_format import new_token
from storage.errors import PinnedRevision

Write = Callable[..., Path]
SITES = ("encoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.v")
ROWS = [{"input": "abc", "output": "cba"}, {"input": "hello", "output": "olleh"}]


def test_a_home_and_a_server_have_every_method_of_a_hub() -> None:
    wanted = {name for name, value in vars(Hub).items() if callable(value) and not name.startswith("_")}
    shared = {"close", "compose", "search", "resume", "finish", "export", "report", "searches"}
    assert len(wanted - shared) >= 11
    for kind in (LocalHub, RemoteHub):
        assert (wanted - shared) | {"workshop", "mixer"} <= vars(kind).keys(), kind


def test_which_hub_is_meant(home_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Hub() as hub:
        assert isinstance(hub, LocalHub) and hub.home.directory == home_folder
    monkeypatch.setenv("MIXHUB_URL", "http://127.0.0.1:9/hub/")
    with Hub() as hub:
        assert isinstance(hub, RemoteHub) and hub.server.url == "http://127.0.0.1:9/hub"
    with Hub(home=tmp_path / "named") as hub:
        assert isinstance(hub, LocalHub), "a folder that is named is meant"
    with Hub(url="https://other") as hub:
        assert isinstance(hub, RemoteHub) and hub.server.url == "https://other"
    with pytest.raises(UsageError, match="not the URL"):
        Hub(url="other:8000")


@pytest.mark.usefixtures("online")
def test_a_token_of_another_hub_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = new_token(), new_token()
    for found, wanted in (("hf_secret", None), ("", None), (ours, ours)):
        monkeypatch.setenv("HF_TOKEN", found)
        assert Connection(Settings(url="http://x")).token() == wanted
    monkeypatch.setenv("MIXHUB_TOKEN", other)
    assert Connection(Settings(url="http://x")).token() == other


def test_the_client_speaks_for_whoever_has_the_token(
    on_server: Any, write_lora: Write, mixhub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hub() as hub:
        assert hub.publish(write_lora("a"), "said/a").version == "v1"
    with Hub(url=on_server.url, token="") as stranger, pytest.raises(RepoNotFound) as refused:
        stranger.show("said/a")
    assert refused.value.remedy == f"mixhub login {on_server.url}"
    with Hub(url=on_server.url, token=new_token()) as unknown, pytest.raises(InvalidToken):
        unknown.find()
    monkeypatch.delenv("MIXHUB_URL")
    ran = mixhub("--url", on_server.url, "show", "said/a", "--json")
    assert ran.json["address"] == "said/a", "--url does what MIXHUB_URL does"
    assert mixhub("show", "said/a").code == 1, "and only for that one command"


@pytest.mark.usefixtures("on_server")
def test_a_search_on_a_server_is_resumed_from_its_own_trials(write_lora: Write, tiny_t5: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with Hub() as hub:
        hub.publish(tiny_t5, "resumed/base")
        for seed, name in enumerate("ab"):
            hub.publish(
                write_lora(name, seed=seed, scale=0.2, base_model_name_or_path="resumed/base"), f"resumed/{name}"
            )
        stopped = hub.search(
            ["resumed/a", "resumed/b"], ROWS, into="resumed/found", budget=9, optimizer="Cobyla", on_batch=stop
        )
        assert stopped.result.stopped and stopped.composed is None
    with Hub() as hub:  # another process would do the same
        hub.delete("resumed/b")
        whole = hub.resume(stopped.uuid[:12])
        assert whole.uuid == stopped.uuid and whole.result.evaluations == 9
        assert whole.result.trials[: len(stopped.result.trials)] == stopped.result.trials


@pytest.mark.usefixtures("on_server")
def test_a_target_that_may_not_be_written_is_refused_before_anything_is_scored(
    served: Any, mixhub: Callable[..., Any], write_lora: Write, few_shot: Path, home_folder: Path
) -> None:
    with Hub() as hub:
        hub.publish(write_lora("a"), "guarded/a")
    with open_home(Settings(home=served.home, url="")) as home:
        create_user(home, "reader", is_admin=False)
        token = create_token(home, "reader", role="write").token
    for given, kind in ((token, "NotAllowed"), ("", "SignInFirst")):
        with Hub(token=given) as hub, pytest.raises(HubError) as refused:
            hub.search(["guarded/a"], ROWS, into="guarded/found")
        assert type(refused.value).__name__ == kind
    with Hub(token=token) as hub:
        hub.check_target("reader/found")
        hub.check_target("")
    assert mixhub("search", "guarded/a", "--examples", few_shot, "--as", "guarded/found@v1").code == 2
    assert not (home_folder / "remotes").exists(), "nothing was fetched"


@pytest.mark.usefixtures("on_server")
def test_what_was_brought_once_is_not_fetched_again(
    write_lora: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hub() as hub:
        assert isinstance(hub, RemoteHub)
        hub.publish(write_lora("a"), "cached/a")
        hub.export("cached/a", tmp_path / "one")
        fetched: list[str] = []
        fetch = hub.server.hugging_face
        monkeypatch.setattr(hub.server, "hugging_face", lambda: [fetched.append("files"), fetch()][1])
        hub.export("cached/a", tmp_path / "two")
        assert fetched == []
        hub.publish(write_lora("a2", seed=2), "cached/a")
        fetched.clear()
        hub.export("cached/a", tmp_path / "three")
        assert fetched, "main names another commit by now"
    weights = "adapter_model.safetensors"
    assert (tmp_path / "one" / weights).read_bytes() == (tmp_path / "two" / weights).read_bytes()
    assert (tmp_path / "one" / weights).read_bytes() != (tmp_path / "three" / weights).read_bytes()


@pytest.mark.usefixtures("on_server")
def test_a_base_on_this_machine_cannot_be_named_to_a_server(write_lora: Write, tiny_t5: Path) -> None:
    with Hub() as hub, pytest.raises(UsageError, match="cannot see the folder") as refused:
        hub.publish(write_lora("a"), "far/a", base=str(tiny_t5))
    assert f"mixhub publish {tiny_t5}" in refused.value.remedy


@pytest.mark.usefixtures("online")
def test_a_server_that_is_not_there_is_told_plainly(
    mixhub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    for command in (["ls"], ["pull", "a/b", tmp_path / "x"], ["promote", "a/b", "prod"]):
        ran = mixhub("--url", url, *command)
        assert ran.code == 1 and ran.err.startswith(f"error: {url} cannot be reached"), ran.err
        assert "MIXHUB_URL" in ran.err and "Traceback" not in ran.err
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ran = mixhub("--url", url, "ls")
    assert ran.code == 1 and "unset HF_HUB_OFFLINE" in ran.err


@pytest.mark.usefixtures("online")
def test_a_stranger_s_page_is_no_answer() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if "show" in self.path else 200)
            self.send_header("content-length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Hub(url=f"http://127.0.0.1:{server.server_port}") as hub:
            with pytest.raises(ServerRefused, match="does not answer as a mixhub server"):
                hub.find()
            with pytest.raises(ServerRefused, match="404, not as a mixhub server"):
                hub.show("team/show")
        server.shutdown()


class Answer:
    """As much of a response as `refusal` looks at."""

    def __init__(self, status: int, body: object, **headers: str) -> None:
        self.status_code, self.headers = status, headers
        self.content = body if isinstance(body, bytes) else json.dumps(body).encode()


def test_a_refusal_is_the_error_that_it_names() -> None:
    body = {"error": "m (r)", "kind": "BadUpload", "message": "m", "remedy": "r"}
    error = refusal("http://x", Answer(400, body))
    assert isinstance(error, BadUpload) and (error.message, error.remedy, str(error)) == ("m", "r", "m\n  r")
    pinned = refusal("http://x", Answer(409, {**body, "kind": "PinnedRevision"}))
    assert isinstance(pinned, PinnedRevision) and pinned.message == "m"
    for kind in ("Exception", "HubError.x", "annotations", "KeyboardInterrupt", None, 3):
        error = refusal("http://x", Answer(500, {**body, "kind": kind}))
        assert isinstance(error, ServerRefused) and error.message == "m", kind
    framework = refusal("http://x", Answer(404, {"error": "There is nothing at this address."}))
    assert isinstance(framework, ServerRefused) and framework.message.startswith("There is nothing")
    assert not isinstance(framework, ServerUnreachable)


@pytest.mark.parametrize(
    "words", [["db", "check"], ["user", "create", "x"], ["org", "create", "x", "--owner", "y"], ["token", "list"],
              ["base", "ls"], ["db", "gc"], ["db", "upgrade"]],
)  # fmt: skip
def test_commands_on_a_home_itself_say_that_they_are_not_for_a_server(
    mixhub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, contents: Callable[[], object], words: list[str]
) -> None:
    before = contents()
    monkeypatch.setenv("MIXHUB_URL", "http://127.0.0.1:9")
    ran = mixhub(*words, "--json")
    error = json.loads(ran.err)
    assert ran.code == 2 and "http://127.0.0.1:9" in error["message"] and "env -u MIXHUB_URL" in error["remedy"]
    assert contents() == before
    monkeypatch.delenv("MIXHUB_URL")
    assert mixhub("--url", "http://127.0.0.1:9", *words).code == 2


@pytest.mark.parametrize(
    "words", [["ls", "--limit", "0"], ["ls", "--nonsense"], ["nonsense"], ["export"], ["search", "--budget", "x"]]
)
def test_with_json_also_a_malformed_command_line_is_a_document(mixhub: Callable[..., Any], words: list[str]) -> None:
    ran = mixhub(*words, "--json")
    assert ran.code == 2 and ran.out == ""
    error = json.loads(ran.err)
    assert error["error"] == "UsageError" and error["message"] and error["remedy"].startswith("mixhub")


@pytest.mark.usefixtures("on_server")
def test_what_was_brought_unbound_is_bound_when_the_server_binds_it(
    write_lora: Write, other_base: Write, tmp_path: Path
) -> None:
    folder = write_lora("late", base_model_name_or_path="", scale=0.2)
    with Hub() as hub:
        assert any("unbound" in note for note in hub.publish(folder, "late/a").notes)
        hub.export("late/a", tmp_path / "out")
        with pytest.raises(UnknownBase):
            hub.search(["late/a"], ROWS, budget=3, allow_unbound=True)
        hub.publish(other_base(tmp_path / "base", seed=78), "late/base")
        assert not hub.publish(folder, "late/a", base="late/base").created
        (part,) = hub.search(["late/a"], ROWS, budget=3).plan.parts
        assert part.facts.base_identity == hub.show("late/a").facts["base identity"]


@pytest.mark.usefixtures("on_server")
def test_an_adapter_that_cannot_be_read_without_its_base_brings_it_along(
    write_lora: Write, other_base: Write, tmp_path: Path
) -> None:
    """DoRA normalises by the base weights; the plain LoRA of it is the same from a home and from a server."""
    base = other_base(tmp_path / "base", seed=77)
    magnitude = {f"base_model.model.{site}.lora_magnitude_vector": torch.full((16,), 1.5) for site in SITES}
    plain = write_lora("plain", seed=3, base_model_name_or_path="dora/base")
    dora = write_lora("dora", seed=4, base_model_name_or_path="dora/base", use_dora=True, tensors=magnitude)
    made = {}
    for where in (Hub(home=tmp_path / "here"), Hub()):
        with where as hub:
            hub.publish(base, "dora/base")
            hub.publish(plain, "dora/plain")
            hub.publish(dora, "dora/dora")
            name = type(hub).__name__
            mixed = hub.compose({"dora/dora": 0.5, "dora/plain": 1.0}, "dora/mix", method="exact")
            assert mixed.published.version == "v1"
            for address in ("dora/dora", "dora/mix"):
                out = hub.export(address, tmp_path / name / address).directory
                made.setdefault(address, []).append(load_file(out / "adapter_model.safetensors"))
    for here, there in made.values():
        assert here.keys() == there.keys()
        assert all(torch.equal(here[key], there[key]) for key in here)
