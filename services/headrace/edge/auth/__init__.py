"""Who is asking: keys, sign-in, trusted proxies."""
