"""Who may do what, and how much: pure functions and records."""
