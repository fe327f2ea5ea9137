"""A search in a process of its own: Ctrl-C ends it within seconds, kill -9 loses nothing, and both can be resumed."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]
Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., Any]
SECONDS = 60


@pytest.fixture(autouse=True)
def adapters(mixhub: Run, write_lora: Write, tiny_t5: Path) -> None:
    for seed, name in enumerate("abc", start=1):
        folder = write_lora(f"s{seed}", seed=seed, scale=0.2)
        assert mixhub("publish", folder, f"team/{name}", "--base", tiny_t5).code == 0


def wait_for_trials(home_folder: Path, count: int) -> None:
    end = time.monotonic() + SECONDS
    with closing(sqlite3.connect(home_folder / "mixhub.sqlite", timeout=10)) as database:
        while database.execute("select count(*) from trial").fetchone()[0] < count:
            assert time.monotonic() < end, "the search does not begin"
            time.sleep(0.005)


def words(few_shot: Path, budget: int, *more: str) -> list[object]:
    return ["search", "team/a", "team/b", "team/c", "--examples", few_shot, "--budget", budget,
            "--optimizer", "OnePlusOne", "--method", "lorahub", "--no-gate", *more]  # fmt: skip


def test_ctrl_c_keeps_what_was_found_tells_how_to_go_on_and_really_ends(
    mixhub: Run, start_mixhub: Start, few_shot: Path, home_folder: Path
) -> None:
    process = start_mixhub(*words(few_shot, 5000, "--as", "team/new"))
    wait_for_trials(home_folder, 8)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < 10
    assert process.returncode == 130 and "Traceback" not in err
    assert "Loading weights" not in err  # a library's progress bar
    assert "few-shot loss" in out and "best single" in out
    resume = re.search(r"stopped.*mixhub search --resume ([0-9a-f]{12})", err)
    assert resume is not None
    assert mixhub("show", "team/new").code == 1
    assert f"mixhub search --resume {resume.group(1)} --finish" in err
    finished = mixhub("search", "--resume", resume.group(1), "--finish", "--json").json
    assert finished["published"]["version"] == "v1" and finished["stopped"] is False
    assert mixhub("show", "team/new").code == 0


def test_ctrl_c_while_the_base_is_loaded_ends_at_once_and_the_search_can_begin_later(
    mixhub: Run, start_mixhub: Start, few_shot: Path
) -> None:
    process = start_mixhub(*words(few_shot, 14))
    assert process.stderr is not None
    uuid = re.search(r"--resume ([0-9a-f]{12})", process.stderr.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130 and "Traceback" not in err and uuid is not None
    assert mixhub("search", "--resume", uuid.group(1), "--json").json["evaluations"] == 14


def test_a_killed_search_resumes_to_what_an_uninterrupted_one_finds(
    mixhub: Run, start_mixhub: Start, few_shot: Path, home_folder: Path
) -> None:
    process = start_mixhub(*words(few_shot, 120, "--as", "team/killed"))
    wait_for_trials(home_folder, 15)
    process.kill()
    assert process.stderr is not None
    uuid = re.search(r"--resume ([0-9a-f]{12})", process.stderr.read())
    assert process.wait() == -9 and uuid is not None
    assert mixhub("db", "check", "--deep").code == 0
    with closing(sqlite3.connect(home_folder / "mixhub.sqlite")) as database:
        kept = database.execute("select count(*) from trial").fetchone()[0]
    assert 15 <= kept < 120
    resumed = mixhub("search", "--resume", uuid.group(1), "--json").json
    whole = mixhub(*words(few_shot, 120, "--as", "team/whole"), "--json").json
    assert resumed["trials"] == whole["trials"] and resumed["weights"] == whole["weights"]
    digests = {mixhub("show", f"team/{n}", "--json").json["facts"]["weights sha256"] for n in ("killed", "whole")}
    assert len(digests) == 1


STUBBORN = """
import os, signal, sys, threading, time, weakref
import numpy as np
from hub.actions import search_scorer as action
from hub.cli import main

way = sys.argv.pop(1)

class Held: pass

def press():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)

def lose_it():
    held = Held()
    finalizer = weakref.ref(held, lambda _: press())
    del held

class Scorer:
    adapter_names = ("team/a", "team/b", "team/c"); token_counts = np.ones(1, dtype=int)
    method = "lorahub"; method_params = {"fold": "balanced"}; calls = 0
    def example_losses(self, weights):
        self.calls += 1
        if way == "lost while scoring" and self.calls == 5:
            lose_it()
        time.sleep(0.02)
        return ((weights[:, None] - 0.3) ** 2).sum(-1)

def load(plan):
    if way == "lost while loading":
        lose_it()
    if way == "becomes another error":
        try:
            press()
        except KeyboardInterrupt:
            raise RuntimeError("a module is only half loaded")
    if way == "inside compiled code":
        import ctypes
        run_string = ctypes.pythonapi.PyRun_String
        run_string.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.py_object, ctypes.py_object]
        run_string.restype = ctypes.py_object
        run_string(b"press()", 257, {"press": press}, {})
    if way == "leaves a thread":
        threading.Thread(target=threading.Event().wait).start()
        press()
    if way == "pressed twice":
        lose_it()
        press()
        time.sleep(60)
    return Scorer()

action._scorer = load
main.run()
"""


@pytest.mark.parametrize(
    "way",
    [
        "lost while loading",
        "lost while scoring",
        "becomes another error",
        "inside compiled code",
        "leaves a thread",
        "pressed twice",
    ],
)
def test_a_ctrl_c_that_a_library_swallows_or_turns_into_another_error_still_stops_the_search(
    few_shot: Path, home_folder: Path, tmp_path: Path, way: str
) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    command = [sys.executable, "-m", "stubborn", way, *map(str, words(few_shot, 100_000))]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True, timeout=SECONDS,
    )  # fmt: skip
    assert ran.returncode == 130 and "Traceback" not in ran.stderr, ran.stderr
    with closing(sqlite3.connect(home_folder / "mixhub.sqlite")) as database:
        [(uuid, status)] = database.execute("select uuid, status from search").fetchall()
    if way == "pressed twice":
        return  # ended at once, so nothing was said or written any more
    assert status == "stopped"
    assert f"stopped; continue with: mixhub search --resume {uuid[:12]}\n" in ran.stderr
    assert ("few-shot loss" in ran.stdout) == ("--finish" in ran.stderr) == (way == "lost while scoring")
