"""Continuing a response that another worker began."""
