"""Mirrors WorkOS's organizations into ``organization_metadata``."""

__version__ = "1.0.0"
