"""Tasks of anticipation: which verb, noun and action comes next in a long video (EPIC-KITCHENS-100)."""
