"""Tokens, signatures and what callers may do, without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub import access, token_format
from hub.actions import accounts as account_actions
from hub.actions.publish import publish
from hub.address import parse_address
from hub.errors import BadSignature, InvalidToken, NotAllowed, RepoNotFound, SignInFirst, UsageError
from hub.home import Home
from hub.signing import sign, verify
from storage import accounts, repos


def test_tokens_have_a_checksum_that_finds_typos() -> None:
    token = token_format.new_token()
    assert token_format.is_well_formed(token) and token != token_format.new_token()
    for i in range(4, len(token)):
        other = "0" if token[i] != "0" else "1"
        assert not token_format.is_well_formed(token[:i] + other + token[i + 1 :])


def test_a_signature_holds_for_its_words_its_purpose_and_its_time() -> None:
    key = b"k" * 32
    signed = sign(key, {"oid": "1"}, purpose="put", seconds=60)
    assert verify(key, signed, purpose="put")["oid"] == "1"
    for wrong in (
        lambda: verify(key, signed, purpose="get"),
        lambda: verify(b"x" * 32, signed, purpose="put"),
        lambda: verify(key, signed[:-1] + ("0" if signed[-1] != "0" else "1"), purpose="put"),
        lambda: verify(key, "e30." + signed.partition(".")[2], purpose="put"),
        lambda: verify(key, "", purpose="put"),
        lambda: verify(key, "ä.ö", purpose="put"),
        lambda: verify(key, sign(key, {}, purpose="put", seconds=-1), purpose="put"),
    ):
        with pytest.raises(BadSignature):
            wrong()


def test_the_first_start_makes_one_administrator_and_closes_what_was_published(
    home: Home, write_lora: Callable[..., Path]
) -> None:
    publish(home, write_lora("a"), parse_address("team/sql"))
    with home.write() as session:
        repo = repos.find(session, "team", "sql")
        repos.set_access(session, repo, visibility="public", gated=None)
    token = account_actions.first_start(home)
    assert token is not None and account_actions.first_start(home) is None
    account_actions.create_user(home, "ann")
    ann = account_actions.create_token(home, "ann", role="write").token
    with home.read() as session:
        admin, stranger = access.caller_of(session, token), access.caller_of(session, ann)
        assert access.visible_repo(session, admin, "team", "sql").visibility == "private"
        for caller in (stranger, access.NOBODY):
            with pytest.raises(RepoNotFound):
                access.visible_repo(session, caller, "team", "sql")
    account_actions.adopt(home, "team", user="ann")
    with home.read() as session:
        caller = access.caller_of(session, ann)
        access.require(caller, access.visible_repo(session, caller, "team", "sql"), "admin")


def test_an_administrator_s_lesser_token_is_like_anybody_s(home: Home) -> None:
    account_actions.create_user(home, "root", is_admin=True)
    account_actions.create_user(home, "ann")
    with home.write() as session:
        repo = repos.create(session, "ann", "own", visibility="private")
    tokens = {role: account_actions.create_token(home, "root", role=role).token for role in ("read", "write", "admin")}
    with home.read() as session:
        callers = {role: access.caller_of(session, token) for role, token in tokens.items()}
        assert [callers[role].may(repo.account_id, "read") for role in ("read", "write", "admin")] == [
            False,
            False,
            True,
        ]
        with pytest.raises(NotAllowed):
            access.require(callers["read"], repo, "write")
        with pytest.raises(SignInFirst):
            access.require(access.NOBODY, repo, "write")


def test_tokens_expire_and_are_revoked(home: Home) -> None:
    account_actions.create_user(home, "ann")
    old = account_actions.create_token(home, "ann", role="read", days=0)
    new = account_actions.create_token(home, "ann", role="read", days=1)
    with home.read() as session:
        assert access.caller_of(session, new.token).name == "ann"
        with pytest.raises(InvalidToken):
            access.caller_of(session, old.token)
    account_actions.revoke_token(home, new.stored.id)
    with home.read() as session, pytest.raises(InvalidToken):
        access.caller_of(session, new.token)
    assert [token.state for token in account_actions.list_tokens(home, "ann")] == ["expired", "revoked"]


def test_people_and_the_local_account_do_not_change_hands(home: Home) -> None:
    account_actions.create_user(home, "ann")
    account_actions.create_user(home, "bob")
    for name in ("local", "bob"):
        with pytest.raises(UsageError):
            account_actions.adopt(home, name, user="ann")
    with home.read() as session:
        assert accounts.find(session, "bob").owner_id is None
