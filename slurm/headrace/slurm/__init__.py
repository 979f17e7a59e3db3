"""The cluster's side without I/O of its own: Slurm as pure functions, and the gate."""
