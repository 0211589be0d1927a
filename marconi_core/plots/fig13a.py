"""Figure 13a: token hit rate against the arrival rate of sessions."""

from marconi_core.plots.microbenchmark import Microbenchmark

FIGURE = Microbenchmark("fig13a", "sessions per second")
table, draw = FIGURE.table, FIGURE.draw
