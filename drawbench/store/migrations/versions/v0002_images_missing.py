"""Votes say how many images of their page were missing; invitations keep a place."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEPT_UNTIL = 4_102_444_800.0  # the year 2100, as in drawbench.store.hands

_RATERS = sa.table("rater", sa.column("lease_until"), sa.column("consented_at"))
_INVITED = sa.update(_RATERS).where(_RATERS.c.consented_at.is_(None))


def upgrade() -> None:
    """Add the column, and keep places for the invitations that nobody has used yet."""
    op.add_column("vote", sa.Column("images_missing", sa.Integer(), nullable=True))
    op.execute(_INVITED.values(lease_until=KEPT_UNTIL))


def downgrade() -> None:
    """Drop the column; places are kept no longer."""
    op.execute(_INVITED.values(lease_until=0.0))
    op.drop_column("vote", "images_missing")
