"""Mutants that no tool makes: of SQL, of locks, of the order of transactions."""
