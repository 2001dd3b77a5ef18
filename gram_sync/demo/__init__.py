"""Plays a day of changes between a fake WorkOS and the mirror, and compares both at its end."""
