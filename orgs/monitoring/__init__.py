"""Shows the status to monitoring: metrics, alert rules, dashboard, runbook."""
