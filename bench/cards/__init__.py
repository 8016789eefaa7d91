"""Schemas of the YAML cards, and how they are found and changed. No behaviour."""
