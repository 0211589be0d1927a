"""Table 1: FLOPs and cached bytes of one layer, as printed, and as the simulator computes them."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from marconi_core.models import MODELS, flops

TOKENS = 1_000  # at which both are evaluated


class Term(NamedTuple):
    """One term of a printed formula: a factor, and the powers of L, D and N."""

    factor: int
    L: int = 0
    D: int = 0
    N: int = 0

    def __str__(self) -> str:
        letters = (letter * power if power < 2 else f"{letter}²" for letter, power in self._powers)
        return f"{self.factor}{''.join(letters)}"

    def at(self, tokens: int, d: int, n: int) -> int:
        """Return the term's value."""
        return int(self.factor * tokens**self.L * d**self.D * n**self.N)

    @property
    def _powers(self) -> tuple[tuple[str, int], ...]:
        return ("L", self.L), ("D", self.D), ("N", self.N)


class Row(NamedTuple):
    """A cell of the paper's Table 1, and the function of the simulator for it."""

    layer: str
    quantity: str
    printed: tuple[Term, ...]
    simulator: Callable[[int, int, int], int]


ROWS = (
    Row("attention", "FLOPs", (Term(8, 1, 2), Term(4, 2, 1)), lambda L, d, n: flops.attention_flops(L, d)),
    Row("attention", "bytes", (Term(4, 1, 1),), lambda L, d, n: L * flops.kv_bytes(d)),
    Row("MLP", "FLOPs", (Term(16, 1, 2),), lambda L, d, n: flops.mlp_flops(L, d)),
    Row("SSM", "FLOPs", (Term(12, 1, 2), Term(16, 1, 1, 1), Term(10, 1)), flops.mamba_flops),
    Row("SSM", "bytes", (Term(2, 0, 1, 1),), lambda L, d, n: flops.state_bytes(d, n)),
)  # fmt: skip


def table() -> pd.DataFrame:
    """Return one row a cell: the printed formula, its value, and the simulator's, for the paper's 7B."""
    model = MODELS["paper_7b"]
    rows = []
    for row in ROWS:
        printed = sum(term.at(TOKENS, model.d, model.n) for term in row.printed)
        computed = row.simulator(TOKENS, model.d, model.n)
        rows.append(
            {
                "layer": row.layer,
                "quantity": row.quantity,
                "printed": " + ".join(map(str, row.printed)),
                "printed_value": printed,
                "simulator_value": computed,
                "difference_percent": 100 * (computed - printed) / printed,
            }
        )
    return pd.DataFrame(rows)
