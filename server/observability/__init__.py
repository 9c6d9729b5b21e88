"""What the service says of itself while it runs: logs, metrics, traces, the audit log. Structures, query texts and names reach none of them."""

from server.observability.logs import configure_logs

__all__ = ["configure_logs"]
