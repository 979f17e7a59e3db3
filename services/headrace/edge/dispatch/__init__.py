"""A live request: published to the bus, its frames put back together."""
