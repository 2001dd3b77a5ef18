"""The use cases. This package and ``orgs.db`` alone open transactions and take locks.

No transaction is ever open while WorkOS is called or while anything sleeps.
"""
