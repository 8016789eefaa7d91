"""The one story: plan, extract, fit, score, record."""
