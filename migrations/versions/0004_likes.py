"""Who likes which repo, and how many like it.

Written out, not derived from the models: it must stay as it is when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "repo", sa.Column("likes", sa.Integer(), nullable=False, server_default="0", comment="rows of repo_like")
    )
    op.create_table(
        "repo_like",
        sa.Column("repo_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["repo_id"], ["repo.id"], name=op.f("fk_repo_like_repo_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_repo_like_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repo_id", "account_id", name=op.f("pk_repo_like")),
    )
    op.create_index(op.f("ix_repo_like_account_id"), "repo_like", ["account_id"])


def downgrade() -> None:
    op.drop_table("repo_like")
    op.drop_column("repo", "likes")
