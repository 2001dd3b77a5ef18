"""`orgs`, installed from its wheel into projects of other people: one cell a configuration."""
