"""Access, quotas, budgets and usage."""
