"""Real traces in the vocabulary of live servers: Tekken's ids, and prefixes shared as before."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from marconi_core.traces.describe import shared_prefixes
from marconi_core.traces.retokenize import retokenize
from marconi_core.traces.tokenizers import load_encoder
from marconi_core.traces.trace import Workload
from marconi_core.traces.vocabulary import Vocabulary

pytestmark = pytest.mark.network


def test_tekken_gives_the_reference_ids(tekken: Path) -> None:
    path = Path(__file__).with_name("tokenizer-vectors.json")
    vectors = json.loads(path.read_text(encoding="utf-8"))
    ids = load_encoder(tekken)([vector["text"] for vector in vectors])
    assert [array.tolist() for array in ids] == [vector["tekken"] for vector in vectors]


@pytest.mark.parametrize("vocabulary", ["llama2", "tekken"])
def test_bytes_of_a_vocabulary_are_those_of_the_texts(
    vocabulary: str, tokenizer: Path, tekken: Path
) -> None:
    loaded = Vocabulary.load(tokenizer if vocabulary == "llama2" else tekken)
    path = Path(__file__).with_name("tokenizer-vectors.json")
    for vector in json.loads(path.read_text(encoding="utf-8")):
        bos, *contents = loaded.parts(np.array(vector[vocabulary], np.int32))
        assert bos == "<s>"
        assert b"".join(contents) == vector["text"].encode()  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["sharegpt", "tau_airline"])
def test_every_shared_prefix_stays_one(
    source: str, load: Callable[[str], Workload], tokenizer: Path, tekken: Path
) -> None:
    before = load(source)
    after, found = retokenize(before, Vocabulary.load(tokenizer), Vocabulary.load(tekken))
    assert len(after.tree) == len(before.tree)
    assert found.replaced == found.split_characters == 0

    # node by node: paths of all requests correspond, one to one
    to_new = np.full(len(before.tree), -1)
    for a, b in zip(before.out_node, after.out_node, strict=True):
        old_path, new_path = before.tree.path(a), after.tree.path(b)
        assert len(old_path) == len(new_path)
        assert ((to_new[old_path] == new_path) | (to_new[old_path] < 0)).all()
        to_new[old_path] = new_path
    assert len(np.unique(to_new)) == len(before.tree) and (to_new >= 0).all()
    assert np.array_equal(to_new[before.in_node], after.in_node)

    # what a cache could know ends at the same node
    order = np.arange(len(before), dtype=np.float64)
    for old, new in zip(
        shared_prefixes(before.schedule(order)), shared_prefixes(after.schedule(order)), strict=True
    ):
        for i, known in enumerate(old):
            path = before.tree.path(before.in_node[i])
            node = path[np.searchsorted(before.tree.depth[path], known)]
            assert after.tree.depth[to_new[node]] == new[i]
