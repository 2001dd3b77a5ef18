"""Mirrors WorkOS's organizations into ``organization_metadata``."""

__version__ = "0.2.0"
