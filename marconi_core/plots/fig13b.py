"""Figure 13b: token hit rate against the mean response time."""

from marconi_core.plots.microbenchmark import Microbenchmark

FIGURE = Microbenchmark("fig13b", "mean response time (s)")
table, draw = FIGURE.table, FIGURE.draw
