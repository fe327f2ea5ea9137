"""Which blobs were found damaged, and how far the scrub has come.

Written out, not derived from the models: it must stay as it is when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob_damage",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "healed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="NULL: its bytes are asked for again; else some may have gone out wrong, so no download is resumed",
        ),
        sa.CheckConstraint("reason <> ''", name=op.f("ck_blob_damage_has_reason")),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name=op.f("fk_blob_damage_sha256"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blob_damage")),
    )
    op.create_table(
        "blob_scrub",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "position", sa.String(64), nullable=False, comment="the sha256 that was begun last; empty: a round is over"
        ),
        sa.Column("round_began_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_blob_scrub_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob_scrub")),
    )


def downgrade() -> None:
    op.drop_table("blob_scrub")
    op.drop_table("blob_damage")
