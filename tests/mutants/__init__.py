"""Removes the safety lines of the project one at a time, and requires a red suite for each.

``python -m tests.mutants --only lease``. A mutant is a copy of the project in which one text of one
file is replaced. It is killed if a test that is named with it fails. If they all pass it survives:
a promise could be broken unnoticed, or the line promises nothing.
"""
