"""The answers of a run on disk, one form a file."""
