"""Kills a process before and after each step of its work that stays: a commit, a call that writes.

Between the process and the outside, PostgreSQL and WorkOS, stands a relay that numbers what passes
(``relay``). A process is forked for each (``launcher``), runs one of the product's works, and
is ended by SIGKILL there (``steps``). Nothing of this is known to the product.
"""
