"""What a run will cost, forecast from a measurement: a few clips are decoded and encoded and a few steps of the probe
are made, and the rest is counted (docs/scale.md).

`counts` says what a run does, `measure` and `probes` how long a little of it takes here, `hours` multiplies.
"""
