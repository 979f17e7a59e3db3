"""What an operator does to users, groups, keys and limits, each with an audit record."""
