"""A real Slurm on one machine, for the demo and for tests."""
