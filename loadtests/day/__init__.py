"""Days of load in virtual time: scaling policies side by side on a simulated Slurm cluster."""
