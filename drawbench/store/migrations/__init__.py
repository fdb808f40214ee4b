"""Alembic's scripts that make and change the tables of the vote store."""
