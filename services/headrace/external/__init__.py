"""Models of commercial providers: their files, which edge and worker both read; no I/O but that."""
