"""The worker: supervises one engine, pulls requests for it, and streams its answers back."""
