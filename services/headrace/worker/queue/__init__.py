"""Requests out of JetStream, frames back to the edge."""
