"""A commercial provider in the place of an engine."""
