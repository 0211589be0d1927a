"""Functions that count no references and those that do can call each other."""

import sys

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled, in_place

Floats = NDArray[np.float64]


def test_arrays_neither_leak_nor_die() -> None:
    @compiled
    def total(values: Floats) -> float:
        return (2 * values).sum()  # makes an array

    @in_place
    def double(values: Floats) -> float:
        before = total(values)
        for i in range(len(values)):
            values[i] *= 2
        return before

    values = np.ones(3)
    references = sys.getrefcount(values)
    assert [double(values), double(values)] == [6, 12]
    assert sys.getrefcount(values) == references
    assert values.tolist() == [4, 4, 4]
