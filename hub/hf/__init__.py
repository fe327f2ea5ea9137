"""The Hugging Face Hub protocol, one file per conversation. Routes only translate; the rules are in `hub.actions`."""

from __future__ import annotations

from fastapi import APIRouter

from hub.hf import (
    account,
    commit,
    discussions,
    info,
    lfs,
    lfs_files,
    likes,
    refs,
    repos,
    resolve,
    tree,
    unnamespaced,
    xet,
)  # fmt: skip

routers: tuple[APIRouter, ...] = (
    account.router, repos.router, info.router, tree.router, refs.router, commit.router, discussions.router,
    lfs.router, lfs_files.router, likes.router, xet.router, resolve.router, unnamespaced.router,
)  # fmt: skip
