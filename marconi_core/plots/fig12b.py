"""Figure 12b: token hit rate against the dimension of the SSM state."""

from marconi_core.plots.microbenchmark import Microbenchmark

FIGURE = Microbenchmark("fig12b", "SSM state dimension", normalised=True)
table, draw = FIGURE.table, FIGURE.draw
