"""Who may ask for what, and how much: people, keys, groups, limits, accounts.

Shared by the edge, which admits requests by it, and the command line, which administers it.
"""
