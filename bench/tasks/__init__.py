"""What differs between kinds of tasks, and nothing else."""
