"""Shows the status to monitoring: metrics, alert rules, dashboard, runbook."""

from pathlib import Path


def runbook_section(code: str) -> str:
    """Return the runbook's section about a problem, as Markdown, without its heading."""
    text = Path(__file__).with_name("runbook.md").read_text(encoding="utf-8")
    return text.partition(f"\n## {code}\n")[2].partition("\n## ")[0].strip()
