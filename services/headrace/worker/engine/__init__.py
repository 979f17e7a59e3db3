"""The engine: how it is started, watched, asked for its health, and ended with all it started."""
