"""The list of mutants, by the rooms of the design: what each of them breaks is a promise."""

from tests.mutants.catalogue import decisions, doors, services, sql, workos

MUTANTS = (
    *decisions.MUTANTS,
    *workos.MUTANTS,
    *sql.MUTANTS,
    *services.MUTANTS,
    *doors.MUTANTS,
)
