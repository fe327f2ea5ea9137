"""The conformance suite: its cases by number, each with tests that the real client runs in both modes.

A test names its cases, `@pytest.mark.case(4)`, and runs in both modes when it, or a fixture of it, takes `mode`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

CASES = {
    1: "whoami, a bad token, `hf auth login --token`",
    2: "create_repo: new, twice, exist_ok, without namespace, in a foreign one, private in the old and the new way",
    3: "model_info of an empty repo has a sha and siblings",
    4: "upload_folder: card, json, weights, an empty file, names with spaces, # and accents, nested",
    5: "upload_file from bytes, path and file object",
    6: "an unchanged upload makes no commit",
    7: "more files than one commit takes; three files of 60 MB",
    8: "uploads of the same chunks before and after a restart of the server",
    9: "LFS in parts; a PUT with other content is refused",
    10: "an lfsFile that nobody uploaded, or that is a stranger's private blob, is refused",
    11: "create_tag: new, twice, exist_ok, delete, delete a missing one",
    12: "a version and main are different snapshots; by full and by short commit id",
    13: "an unknown revision, an unknown repo",
    14: "snapshot_download: allow_patterns, local_dir, dry_run; the second call makes one request",
    15: "an unknown file, which the client remembers",
    16: "a branch with a slash, from its creation to its deletion",
    17: "the tree: recursive or not, expanded, a subfolder, a missing path, in pages of three",
    18: "get_paths_info of a file, a folder and a missing path",
    19: "list_models: author, search, two filters, sort, limit, full, pages; private repos hidden",
    20: "refs with pull requests; the log in order and in pages",
    21: "model_info: files_metadata, expand, an unknown expand",
    22: "file_exists, revision_exists, repo_exists",
    23: "parent_commit; eight commits at once all land",
    24: "create_pr for a file and a folder; download of refs/pr/N",
    25: "copying and deleting in one commit; delete_files and delete_patterns",
    26: "a card with broken YAML",
    27: "a private repo is the same as none to another user and to nobody",
    28: "gated repos; the settings",
    29: "a token that reads: refused before any byte moves",
    30: "ranges: header of weights, HfFileSystem, resuming after a lost connection, 416",
    31: "a redirect to another host gets no token; a renamed repo",
    32: "PEFT: pushed twice, loaded by revision, by Auto class and by load_adapter with the exact logits",
    33: "transformers: base and tokenizer pushed and loaded",
    34: "a base that is only in the cache still loads; a name without namespace is a clean error",
    35: "HfFileSystem: ls, glob, read, write; `hf cache verify`",
    36: "the command line `hf`, with its exit codes",
    37: "returned URLs as 127.0.0.1, localhost, under a path prefix and behind a proxy",
    38: "429 with Retry-After for lists and downloads; 503 for HEAD",
    39: "super_squash_history: old commits stay readable, tags resolve",
    40: "attacks: traversal, html, expired or foreign upload links, the Xet token of another repo",
    41: "delete_repo, missing_ok, the same name again has another history",
}

COLLECT = """
import json, sys, pytest

class Listed:
    def pytest_collection_finish(self, session):
        found = [
            (mark.args, getattr(item, "callspec", None) and item.callspec.params.get("mode"))
            for item in session.items for mark in item.iter_markers("case")
        ]
        print("listed:" + json.dumps(found))

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", sys.argv[1]], plugins=[Listed()]))
"""


def test_every_case_has_a_test_in_both_modes() -> None:
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, str(folder)], cwd=folder.parents[1], capture_output=True, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("listed:")]
    modes: dict[int, set[str]] = defaultdict(set)
    for numbers, mode in json.loads(line.removeprefix("listed:")):
        for number in numbers:
            modes[number].add(mode)
    assert modes.keys() <= CASES.keys()
    lacking = {number: what for number, what in CASES.items() if not modes[number] >= {"xet", "lfs"}}
    assert not lacking
