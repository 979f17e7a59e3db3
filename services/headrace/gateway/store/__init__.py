"""The gateway's tables and queries."""
