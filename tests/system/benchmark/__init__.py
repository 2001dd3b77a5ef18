"""How fast the mirror is, beside what it replaces and beside what PostgreSQL can do.

``python -m tests.system.benchmark`` measures it all in one run, on one machine and one PostgreSQL.
"""
