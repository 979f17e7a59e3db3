"""Fakes of the boundaries, each held against the real part by a test."""
