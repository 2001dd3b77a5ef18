"""Mirrors WorkOS's organizations into ``organization_metadata``."""
