"""Alembic migrations for the tables of the vote store."""
