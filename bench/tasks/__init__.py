"""The kinds of tasks: what differs between them, and nothing else."""
