"""Mirrors WorkOS into PostgreSQL: organizations, and what belongs to them."""

__version__ = "0.2.0"
