"""Any input gives something valid or one clear error: random damage to a valid file of each kind.

`make fuzz` searches the same targets for longer, guided by coverage.
"""

import copy
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import DOCUMENTS, seed, trace, workload, written
from tests.fuzz.targets import READERS, run

EXAMPLES = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
REFUSED_BY_HASH = ("gguf", "tekken")

HOSTILE = st.sampled_from(
    [
        None, True, -1, 0, 2**31, 2**63, 2**64, 10**30, -(10**400), 1e308, float("inf"),
        float("nan"), "", "1", "\x00", "\ud800", "a" * 5000, "../..", [], {}, [[]], [None], {"": 0},
    ]
)  # fmt: skip
VALUES = HOSTILE | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("name", READERS)
def test_the_seed_is_accepted(name: str) -> None:
    assert run(name, seed(name)) is (name not in REFUSED_BY_HASH)


@pytest.mark.parametrize("name", READERS)
@EXAMPLES
@given(data=st.data())
def test_damaged_bytes(name: str, data: st.DataObject) -> None:
    content = bytearray(seed(name))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(start + 8, len(content))) | st.just(len(content)))
        content[start:end] = data.draw(st.binary(max_size=8))
    run(name, bytes(content))


@pytest.mark.parametrize("name", DOCUMENTS)
@EXAMPLES
@given(data=st.data())
def test_a_wrong_value_somewhere(name: str, data: st.DataObject) -> None:
    document = {"root": copy.deepcopy(DOCUMENTS[name])}
    place, key = data.draw(st.sampled_from(list(places(document))))
    if data.draw(st.booleans()):
        place[key] = data.draw(VALUES)
    elif place is not document:
        del place[key]
    run(name, written(name, document["root"]))


def test_a_column_whose_name_is_no_text() -> None:
    assert run("parquet", seed("parquet").replace(b"language", b"l\x92nguage")) is False


def places(value: Any) -> Any:
    """Yield (container, key) of all values in a document."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@pytest.mark.parametrize(
    ("name", "made"), [("compiled_trace", trace), ("compiled_workload", workload)]
)
@settings(EXAMPLES, max_examples=60)
@given(data=st.data())
def test_a_wrong_array_in_a_compiled_file(name: str, made: Any, data: st.DataObject) -> None:
    arrays = made()._arrays() | {"format": np.array(f"marconi {name.removeprefix('compiled_')} 1")}
    key = data.draw(st.sampled_from(list(arrays)))
    array = arrays[key].copy()
    way = data.draw(
        st.sampled_from(["entry", "entry", "entry", "length", "type", "shape", "absent"])
    )
    if way == "entry" and array.size and array.dtype.kind in "if":
        limits = np.iinfo(np.int32)
        wrong = st.integers(-2, 12) | st.sampled_from([limits.min, limits.max])
        if array.dtype.kind == "f":
            wrong |= st.sampled_from([np.nan, np.inf, -1.0])
        array[data.draw(st.integers(0, array.size - 1))] = data.draw(wrong)
    elif way == "length":
        array = np.resize(array, data.draw(st.integers(0, 12)))
    elif way == "type":
        if array.dtype.kind == "U":
            array = np.zeros(1, np.int32)
        array = array.astype(
            data.draw(st.sampled_from(["f4", "i1", "i8", "U8", ">i4", "S3", "c8"]))
        )
    elif way == "shape":
        array = array.reshape((*array.shape, 1))
    arrays[key] = array
    if way == "absent":
        del arrays[key]
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    run(name, file.getvalue())
