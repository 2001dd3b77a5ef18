"""Reads and writes PostgreSQL: transactions, statements, rows, cursor, leases. Never WorkOS."""
