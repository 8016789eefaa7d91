"""How a run is carried out, for every kind of task: plan, extract, fit, score, record."""
