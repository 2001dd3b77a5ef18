"""Kills a process between each two steps of its work that stay: commits, and calls that write.

A process is forked for each (``launcher``), runs one of the product's works, and is ended by
SIGKILL there: psycopg and the HTTP client are watched from within it (``steps``). Nothing of this
is known to the product.
"""
