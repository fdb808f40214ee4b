"""The tables of the vote store. `migrations/` makes them; a test compares the two.

Times are seconds since 1970 (UTC). Tokens are stored as SHA-256 only: they are 128 random bits, so
a plain hash can't be reversed.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class, which names every constraint so that a migration can change it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class StudyRow(Base):
    """A study; one database can hold several."""

    __tablename__ = "study"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    document_sha256: Mapped[str] = mapped_column(String(64))
    """Hash of the study.json that the cells were made from."""
    created_at: Mapped[float] = mapped_column(Double)
    num_joined: Mapped[int] = mapped_column(Integer, default=0)
    """Number of raters who ever joined; it gives each a running number."""
    num_withdrawn: Mapped[int] = mapped_column(Integer, default=0)


class ItemRow(Base):
    """The content of one page."""

    __tablename__ = "item"
    __table_args__ = (UniqueConstraint("study_id", "name"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    name: Mapped[str] = mapped_column(String(300))
    block: Mapped[str] = mapped_column(String(300))


class RaterRow(Base):
    """A person who gave consent, or was invited."""

    __tablename__ = "rater"
    __table_args__ = (
        UniqueConstraint("study_id", "name"),
        UniqueConstraint("study_id", "external_id", name="uq_rater_external_id"),
        # Ids of withdrawn raters must not be reused: a forgotten tab could vote for the next rater.
        {"sqlite_autoincrement": True},
    )
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    name: Mapped[str] = mapped_column(String(40))
    """Random name used in exports."""
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    external_id: Mapped[str | None] = mapped_column(String(200))
    """Id on a crowd platform, if any."""
    number: Mapped[int] = mapped_column(Integer)
    """Running number that seeds the rater's orders."""
    block: Mapped[str | None] = mapped_column(String(300))
    """The block that is assigned or reserved; None lets the study choose."""
    num_assigned: Mapped[int] = mapped_column(Integer, default=0)
    """Number of rated items assigned when they joined."""
    created_at: Mapped[float] = mapped_column(Double)
    consented_at: Mapped[float | None] = mapped_column(Double)
    lease_until: Mapped[float] = mapped_column(Double)
    """Time after which their open items may go to others; of an invitation that nobody has used
    yet, the time until which a place is kept for it."""
    finished_at: Mapped[float | None] = mapped_column(Double)
    completion_code: Mapped[str] = mapped_column(String(80))
    simulated: Mapped[bool] = mapped_column(Boolean, default=False)
    platform_status: Mapped[str] = mapped_column(String(40), default="")
    """Status on a crowd platform, such as "approved"; empty if none was imported."""


class CellRow(Base):
    """One required rating of one item, and its layout."""

    __tablename__ = "cell"
    __table_args__ = (
        UniqueConstraint("item_id", "slot", name="uq_cell_slot"),
        UniqueConstraint("rater_id", "item_id", name="uq_cell_rater"),
        Index("ix_cell_study_rater", "study_id", "rater_id"),
    )
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    slot: Mapped[int | None] = mapped_column(Integer)
    """Index of the rating of the item; None for practice and checks."""
    a_first: Mapped[bool] = mapped_column(Boolean)
    """Whether model A is shown as set A."""
    order_a: Mapped[str] = mapped_column(String(400))
    """Sample indices of model A in the order shown, separated by spaces."""
    order_b: Mapped[str] = mapped_column(String(400))
    rater_id: Mapped[int | None] = mapped_column(ForeignKey("rater.id"))
    """The rater it is assigned to; None while it is open."""
    position: Mapped[int | None] = mapped_column(Integer)
    """Position in the rater's order."""
    done_at: Mapped[float | None] = mapped_column(Double)
    """When the last question was answered."""


class VoteRow(Base):
    """The current answer of a rater to a question on an item."""

    __tablename__ = "vote"
    __table_args__ = (UniqueConstraint("rater_id", "item_id", "question", name="uq_vote_once"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("rater.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    cell_id: Mapped[int] = mapped_column(ForeignKey("cell.id"))
    """The layout that was shown; the cell may since have been reassigned."""
    question: Mapped[str] = mapped_column(String(40))
    answer: Mapped[str] = mapped_column(String(40))
    """`a`, `tie` or `b` for a pair; the answer itself for a single set."""
    shown: Mapped[str] = mapped_column(String(40))
    """The answer clicked: `first`, `tie`, `second`, or that about a single set."""
    a_first: Mapped[bool] = mapped_column(Boolean)
    position: Mapped[int] = mapped_column(Integer)
    response_s: Mapped[float | None] = mapped_column(Double)
    """Seconds from showing the item to this answer."""
    answered_at: Mapped[float] = mapped_column(Double)
    num_changes: Mapped[int] = mapped_column(Integer, default=0)
    images_missing: Mapped[int | None] = mapped_column(Integer)
    """Images of the page that the rater could not see; None if that was not recorded."""


class HistoryRow(Base):
    """Every vote, change and undo, in order."""

    __tablename__ = "history"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("rater.id"), index=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    question: Mapped[str] = mapped_column(String(40))
    event: Mapped[str] = mapped_column(String(10))
    """`vote`, `change` or `undo`."""
    shown: Mapped[str] = mapped_column(String(40))
    response_s: Mapped[float | None] = mapped_column(Double)
    at: Mapped[float] = mapped_column(Double)


class ReportRow(Base):
    """An image that a rater reported."""

    __tablename__ = "report"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("rater.id"), index=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    image_key: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Double)
