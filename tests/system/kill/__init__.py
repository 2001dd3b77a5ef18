"""Kills a process at every step of its work: each statement it sends, each call it makes.

Between the process and the outside, PostgreSQL and WorkOS, stands a relay that numbers what passes
(``relay``). A process is forked for each step (``launcher``), runs one of the product's works, and
is ended by SIGKILL there (``steps``). Nothing of this is known to the product.
"""
