"""Data and caches on remote storage, reached through fsspec: brought to this machine's disk before they are read."""
