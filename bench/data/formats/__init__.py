"""Annotation files -> samples: one reader per format."""
