"""What an operator sees of a running scaler and says to it: top, jobs, scale, drain."""
