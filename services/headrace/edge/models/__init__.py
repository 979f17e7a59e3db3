"""What can be asked for, and in which state it is."""
