"""Shows the status to monitoring: metrics, alert rules, dashboard, runbook."""

from importlib.resources import files

from orgs.domain.status import ProblemCode


def runbook_reference(code: ProblemCode) -> str:
    """Return where in the source the section about a problem is."""
    return f"orgs/monitoring/runbook.md#{code}"


def runbook_section(code: ProblemCode) -> str:
    """Return the section about a problem, as Markdown, without its heading."""
    text = files("orgs.monitoring").joinpath("runbook.md").read_text("utf-8")
    return text.partition(f"\n## {code}\n")[2].partition("\n## ")[0].strip()
