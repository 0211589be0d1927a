"""Figure 11: token hit rate against cache size."""

from marconi_core.plots.microbenchmark import Microbenchmark

FIGURE = Microbenchmark("fig11", "cache size (GB)")
table, draw = FIGURE.table, FIGURE.draw
