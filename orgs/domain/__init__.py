"""Holds every rule, without I/O: resolution, names, problems."""
