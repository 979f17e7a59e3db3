"""`headrace demo`: the whole of Headrace on one machine, in the foreground."""
