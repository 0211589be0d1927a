"""Figure 12a: token hit rate against the composition of layers."""

from marconi_core.plots.microbenchmark import Microbenchmark

FIGURE = Microbenchmark("fig12a", "SSM : attention layers", normalised=True)
table, draw = FIGURE.table, FIGURE.draw
