"""A search's trials keep the loss of each example, from which weights are fitted and mixes are judged.

Written out, not derived from the models: it must stay as it is when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "trial",
        sa.Column(
            "example_losses",
            sa.JSON(),
            nullable=True,
            comment="one per example, bit for bit, null: not a number; NULL: stored before they were kept",
        ),
    )


def downgrade() -> None:
    op.drop_column("trial", "example_losses")
