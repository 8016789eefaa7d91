"""How scores look: on a terminal, in files, as plots, as a page."""
