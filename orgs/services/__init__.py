"""The use cases. This package alone opens transactions and takes locks.

No transaction is ever open while WorkOS is called or while anything sleeps.
"""
