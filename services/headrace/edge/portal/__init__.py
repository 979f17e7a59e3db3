"""The page for one's own keys, and the admin API."""
