"""Shows the status to monitoring: metrics, alert rules, dashboard, runbook."""

from orgs.domain.status import ProblemCode


def runbook_reference(code: ProblemCode) -> str:
    """Return where in the source the section about a problem is."""
    return f"orgs/monitoring/runbook.md#{code}"
