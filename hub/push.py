"""Uploads a folder to any hub that speaks the Hugging Face protocol: huggingface.co, a company's, or another mixhub."""

from __future__ import annotations

from pathlib import Path

from hub.errors import PushFailed


def push_folder(folder: Path, repo_id: str, *, endpoint: str = "", private: bool = False, message: str = "") -> str:
    """Create `repo_id` at `endpoint` (default: HF_ENDPOINT) if it is new, upload `folder` as one commit; its URL.

    The token is that of huggingface_hub (HF_TOKEN, or `hf auth login`). `PushFailed` says what the other side said.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the root of what its transport raises

    api = HfApi(endpoint=endpoint or None)
    try:
        made = api.create_repo(repo_id, private=private or None, exist_ok=True)
        commit = api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, commit_message=message or "Upload with mixhub"
        )
    except (HTTPError, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise PushFailed(
            f"cannot push to {repo_id} at {api.endpoint}: {said}",
            remedy="check the name, --endpoint and the token (HF_TOKEN or `hf auth login`)",
        ) from error
    return str(commit.commit_url)
