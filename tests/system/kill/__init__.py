"""Kills a process after each step of its work that stays: a commit, a call that writes.

Between two of them nothing changes: whoever is killed there leaves the same behind.

A process is forked for each (``launcher``), runs one of the product's works, and is ended by
SIGKILL there: psycopg and the HTTP client are watched from within it (``steps``). Nothing of this
is known to the product.
"""
