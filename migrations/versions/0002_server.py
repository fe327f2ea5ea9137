"""What a server needs: members, tokens, requests for gated repos, pull requests, former names, cards and tags.

Written out, not derived from the models: it must stay as it is when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "account",
        sa.Column(
            "is_admin",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="may do everything, with a token of the role admin",
        ),
    )
    op.add_column(
        "revision",
        sa.Column("card", sa.JSON(), nullable=True, comment="front matter of README.md; NULL: nobody looked"),
    )
    _create_access()
    _create_repo_tables()


def downgrade() -> None:
    for table in (
        "alias_protection", "repo_redirect", "pull_request", "revision_tag", "server_key", "access_request", "token",
        "membership",
    ):  # fmt: skip
        op.drop_table(table)
    op.drop_column("revision", "card")
    op.drop_column("account", "is_admin")


def _create_access() -> None:
    op.create_table(
        "membership",
        sa.Column("org_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column(
            "role", sa.String(8), nullable=False, comment="read, write, or admin: also settings, members and deleting"
        ),
        _choice("membership", "role", "read", "write", "admin"),
        _key("membership", "org_id", "account"),
        _key("membership", "account_id", "account"),
        sa.PrimaryKeyConstraint("org_id", "account_id", name=op.f("pk_membership")),
    )
    op.create_index(op.f("ix_membership_account_id"), "membership", ["account_id"])
    op.create_table(
        "token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(96), nullable=False),
        sa.Column(
            "sha256", sa.String(64), nullable=False, comment="of the whole token; the token itself is shown once"
        ),
        sa.Column("role", sa.String(8), nullable=False, comment="never more than the account itself may do"),
        sa.Column("namespace_id", sa.Integer(), nullable=True, comment="it acts in this namespace only; NULL: in all"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        _choice("token", "role", "read", "write", "admin"),
        _hex("token", "sha256", 64),
        _key("token", "account_id", "account"),
        _key("token", "namespace_id", "account"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("sha256", name=op.f("uq_token_sha256")),
    )
    op.create_index(op.f("ix_token_account_id"), "token", ["account_id"])
    op.create_table(
        "access_request",
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(8), nullable=False, comment="accepted: may read the files of this gated repo"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _choice("access_request", "status", "pending", "accepted", "rejected"),
        _key("access_request", "repo_id", "repo"),
        _key("access_request", "account_id", "account"),
        sa.PrimaryKeyConstraint("repo_id", "account_id", name=op.f("pk_access_request")),
    )
    op.create_table(
        "server_key",
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False, comment="signs short-lived upload URLs and Xet tokens"),
        _hex("server_key", "secret", 64),
        sa.PrimaryKeyConstraint("purpose", name=op.f("pk_server_key")),
    )


def _create_repo_tables() -> None:
    op.create_table(
        "revision_tag",
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column(
            "tag",
            sa.String(512),
            nullable=False,
            comment="as listings show and filter: peft, lora, base_model:adapter:org/base",
        ),
        _key("revision_tag", "revision_id", "revision"),
        sa.PrimaryKeyConstraint("revision_id", "tag", name=op.f("pk_revision_tag")),
    )
    op.create_index(op.f("ix_revision_tag_tag"), "revision_tag", ["tag"])
    op.create_table(
        "pull_request",
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="1, 2, 3 ... per repo"),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("author", sa.String(96), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _choice("pull_request", "status", "open", "closed", "merged"),
        sa.CheckConstraint("number >= 1", name=op.f("ck_pull_request_number_positive")),
        _key("pull_request", "repo_id", "repo"),
        sa.PrimaryKeyConstraint("repo_id", "number", name=op.f("pk_pull_request")),
    )
    op.create_table(
        "repo_redirect",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name_key", sa.String(96), nullable=False, comment="a former name, in lower case"),
        sa.Column("repo_id", sa.Integer(), nullable=False),
        _key("repo_redirect", "account_id", "account"),
        _key("repo_redirect", "repo_id", "repo"),
        sa.PrimaryKeyConstraint("account_id", "name_key", name=op.f("pk_repo_redirect")),
    )
    op.create_index(op.f("ix_repo_redirect_repo_id"), "repo_redirect", ["repo_id"])
    op.create_table(
        "alias_protection",
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False, comment="of an alias, which need not exist yet"),
        sa.Column("role", sa.String(8), nullable=False, comment="the least role that may move the alias"),
        _choice("alias_protection", "role", "write", "admin"),
        _key("alias_protection", "repo_id", "repo"),
        sa.PrimaryKeyConstraint("repo_id", "name", name=op.f("pk_alias_protection")),
    )


def _key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE")


def _hex(table: str, column: str, length: int) -> sa.CheckConstraint:
    form = f"length({column}) = {length} AND trim({column}, '0123456789abcdef') = ''"
    return sa.CheckConstraint(form, name=op.f(f"ck_{table}_{column}_form"))


def _choice(table: str, column: str, *choices: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{choice}'" for choice in choices)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=op.f(f"ck_{table}_{column}_choice"))
