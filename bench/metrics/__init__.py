"""Scores from answers: pure functions on arrays, with their intervals and paired tests."""
