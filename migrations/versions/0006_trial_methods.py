"""A search's trials say how they were mixed, where the search chooses among merge methods.

Written out, not derived from the models: it must stay as it is when the models move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "trial",
        sa.Column("method", sa.String(32), nullable=True, comment="how it was mixed; NULL: by the search's own method"),
    )
    op.add_column(
        "trial", sa.Column("params", sa.JSON(), nullable=True, comment="the method's options; NULL where method is")
    )


def downgrade() -> None:
    op.drop_column("trial", "params")
    op.drop_column("trial", "method")
