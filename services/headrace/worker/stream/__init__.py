"""The bytes of an engine as chunks."""
