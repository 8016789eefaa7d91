"""Weights by name, from where they are published."""
