"""A cache of another hub's public repos.

Written out, not derived from the models: it must stay as it is when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upstream_revision",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repo_key", sa.String(193), nullable=False, comment="ns/name in lower case"),
        sa.Column("commit_id", sa.String(40), nullable=False),
        sa.Column("info", sa.JSON(), nullable=False, comment="name, tags, card and dates, as the upstream shows them"),
        sa.Column("files", sa.JSON(), nullable=False, comment="path, size and digest of every file, kept here or not"),
        sa.CheckConstraint(
            "length(commit_id) = 40 AND trim(commit_id, '0123456789abcdef') = ''",
            name=op.f("ck_upstream_revision_commit_id_form"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upstream_revision")),
        sa.UniqueConstraint("repo_key", "commit_id", name=op.f("uq_upstream_revision_repo_key_commit_id")),
    )
    op.create_table(
        "upstream_ref",
        sa.Column("repo_key", sa.String(193), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, comment="when the upstream last said so"),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["upstream_revision.id"], name=op.f("fk_upstream_ref_revision_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repo_key", "name", name=op.f("pk_upstream_ref")),
    )
    op.create_index(op.f("ix_upstream_ref_revision_id"), "upstream_ref", ["revision_id"])
    op.create_table(
        "upstream_file",
        sa.Column("repo_key", sa.String(193), nullable=False),
        sa.Column(
            "digest",
            sa.String(64),
            nullable=False,
            comment="as listed upstream: the sha256, or the git sha1 of a small file",
        ),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_upstream_file_sha256"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("repo_key", "digest", name=op.f("pk_upstream_file")),
    )
    op.create_index(op.f("ix_upstream_file_sha256"), "upstream_file", ["sha256"])


def downgrade() -> None:
    for table in ("upstream_file", "upstream_ref", "upstream_revision"):
        op.drop_table(table)
