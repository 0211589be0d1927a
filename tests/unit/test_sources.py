"""The readers of the data sets on tiny files, and the registry of sources."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marconi_core import datasets
from marconi_core.datasets import UnavailableError
from marconi_core.errors import ConfigError, DataError, TraceError
from marconi_core.traces.arrivals import RecordedArrivals
from marconi_core.traces.sources import SOURCES, get_source, load_workload, mooncake
from marconi_core.traces.sources.hub import mostly_ascii
from marconi_core.traces.tokenizers import llama2_json
from marconi_core.traces.trace import Trace
from tests.naive import common

SHAREGPT_FILE = "ShareGPT_V3_unfiltered_cleaned_split.json"
SWEBENCH_FILE = "swebench-verified-mini-swe-agent-gemini-3-pro.jsonl"
TAU_FILE = "tau-bench-airline-gpt-4o.jsonl"


def bytes_encoder(texts: Sequence[str]) -> list[np.ndarray]:
    """One token a byte, BOS (1) in front."""
    return [np.array([1, *text.encode()], np.int32) for text in texts]


def read(name: str, folder: Path, **params: object) -> list:
    source = get_source(name)
    options = source.params.model_validate(params)
    files = {file: datasets.local_path(file, folder) for file in source.files_for(options)}
    return list(source.read(options, files, bytes_encoder))


def texts(tokens: Sequence[int]) -> list[str]:
    """Return the messages of a prompt made by `bytes_encoder`."""
    return bytes(int(t) for t in tokens).decode().split("\x01")[1:]


def dialogue(rounds: int, text: str = "w w") -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": f"{text} {i}"} for i in range(2 * rounds)]


def write_sharegpt(folder: Path, records: list[tuple[str, list]], cut: int = 0) -> None:
    text = json.dumps([{"id": key, "conversations": value} for key, value in records])
    (folder / SHAREGPT_FILE).write_text(text[: len(text) - cut])


def write_lines(path: Path, rows: list) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- registry ---------------------------------------------------------------------------------


def test_unknown_sources_and_options_list_the_valid_ones():
    with pytest.raises(ConfigError, match=r"unknown source 'sharegtp'.*sharegpt, sharegpt_long"):
        load_workload("sharegtp")
    with pytest.raises(ConfigError, match=r"option 'sesions'.*options are: sessions"):
        load_workload("synthetic", {"sesions": 3})


def test_every_source_names_registered_files_and_documents_its_options():
    entries = datasets.registry()
    for name, source in SOURCES.items():
        assert source.name == name
        assert set(source.files_needed) <= entries.keys()
        assert all(field.description for field in source.params.model_fields.values())
        if source.files_needed:
            assert source.files_for(source.params())
    assert {name for name, source in SOURCES.items() if source.stands_in} == {
        "sharegpt_long", "swebench",
    }  # fmt: skip


def test_load_workload_needs_the_tokenizer_and_the_file(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"a tokenizer\.json is needed"):
        load_workload("sharegpt", data_dir=tmp_path)
    tokenizer = tmp_path / "tokenizer.json"
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    tokenizer.write_text(llama2_json(pieces), encoding="utf-8")
    with pytest.raises(DataError, match="fetch the 'sharegpt' data set first"):
        load_workload("sharegpt", data_dir=tmp_path, tokenizer_path=tokenizer)
    write_sharegpt(tmp_path, [("a_0", dialogue(10))])
    with pytest.raises(
        DataError, match=r"sharegpt: .* bytes instead of .* \(cut off\?\); delete it"
    ):
        load_workload("sharegpt", {"sessions": 1}, tmp_path, tokenizer)
    monkeypatch.setattr(datasets, "checked_path", datasets.local_path)
    workload = load_workload("sharegpt", {"sessions": 1}, tmp_path, tokenizer)
    assert len(workload) == 10
    assert workload.user_words.tolist() == [2] * 10


# --- ShareGPT ---------------------------------------------------------------------------------


def test_sharegpt_takes_the_first_long_conversations_of_a_cut_file(tmp_path, caplog):
    write_sharegpt(
        tmp_path,
        [("a_0", dialogue(2)), ("b_0", dialogue(3)), ("c_0", dialogue(4)), ("d_0", dialogue(9))],
        cut=10,
    )
    with caplog.at_level("INFO"):
        first, second = read("sharegpt", tmp_path, sessions=2, min_messages=6)
        assert [len(s.turns) for s in (first, second)] == [3, 4]
        with pytest.raises(DataError, match="only 2 conversations that fit"):
            read("sharegpt", tmp_path, sessions=3, min_messages=6)
    assert "3 complete records; the last one is cut off" in caplog.text
    assert texts(first.turns[1].input_tokens) == [json.dumps(m) for m in dialogue(3)[:3]]


@pytest.mark.parametrize("content", ["<html>", "", '[{"id": "a_0", "conv'])
def test_sharegpt_file_without_records(tmp_path, content):
    (tmp_path / SHAREGPT_FILE).write_text(content)
    with pytest.raises(DataError, match=r"fetch it again"):
        read("sharegpt", tmp_path, sessions=1)


def test_sharegpt_long_joins_parts_and_leaves_out_what_sharegpt_uses(tmp_path, monkeypatch):
    whole = dialogue(6)
    used = dialogue(12)
    odd = [{"from": "system", "value": "s"}, *dialogue(5)]
    records = [
        ("used_0", used[:20]),
        ("used_19", used[19:]),
        ("joined_0", whole[:6]),
        ("joined_5", whole[5:8]),  # repeats message 5
        ("joined_8", whole[8:]),
        ("system_0", odd),
        ("short_0", dialogue(3)),
    ]
    write_sharegpt(tmp_path, records)
    monkeypatch.setattr(
        "marconi_core.traces.sources.sharegpt_long.ShareGptParams",
        lambda: get_source("sharegpt").params(sessions=1),
    )
    (session,) = read("sharegpt_long", tmp_path, sessions=1, min_rounds=5)
    assert texts(session.turns[-1].input_tokens) == [json.dumps(m) for m in whole[:11]]


# --- agents -----------------------------------------------------------------------------------


def test_swebench_joins_system_and_task(tmp_path):
    chat = [("system", "be good"), ("user", "fix it"), ("assistant", "ls"), ("user", "a.py")]
    messages = [{"role": role, "content": content} for role, content in chat]
    write_lines(tmp_path / SWEBENCH_FILE, [{"instance_id": "x-1", "messages": messages}])
    (session,) = read("swebench", tmp_path, sessions=1)
    (turn,) = session.turns
    assert texts(turn.input_tokens) == [json.dumps({"role": "user", "content": "be good\nfix it"})]
    assert turn.user_words == 2


def test_swebench_reads_the_folder_of_the_paper(tmp_path):
    for name in ("b.json", "a.json"):
        messages = [{"role": "user", "content": name}, {"role": "assistant", "content": "ok"}]
        (tmp_path / name).write_text(json.dumps(messages))
    first, second = read("swebench", tmp_path, sessions=2, path=tmp_path)
    assert "a.json" in texts(first.turns[0].input_tokens)[0]
    assert "b.json" in texts(second.turns[0].input_tokens)[0]
    (tmp_path / "a.json").write_text('{"info": 1}')
    with pytest.raises(DataError, match=r"a\.json: not a list of messages"):
        read("swebench", tmp_path, path=tmp_path)
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(DataError, match=r"a\.json: not JSON"):
        read("swebench", tmp_path, path=tmp_path)
    with pytest.raises(DataError, match=r"holds no \*\.json"):
        read("swebench", tmp_path, path=tmp_path / "absent")


@pytest.mark.parametrize("row", ['{"messages": 1}', '{"instance_id": "x"}', "[]", '{"messages'])
def test_swebench_names_a_damaged_line(tmp_path, row):
    (tmp_path / SWEBENCH_FILE).write_text(row + "\n")
    with pytest.raises(DataError, match=r"jsonl:1: .*fetch it again"):
        read("swebench", tmp_path, sessions=1)


def test_tau_airline_has_one_request_for_each_assistant_message(tmp_path):
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "assistant", "user"]
    messages = [{"role": role, "content": f"one two {i}"} for i, role in enumerate(roles)]
    write_lines(tmp_path / TAU_FILE, [{"task_id": 0, "trial": 0, "messages": messages}])
    (session,) = read("tau_airline", tmp_path, sessions=1)
    prompts = [len(texts(turn.input_tokens)) for turn in session.turns]
    assert prompts == [2, 4, 6]
    assert [turn.user_words for turn in session.turns] == [2, 0, 2]
    assert texts(session.turns[1].output_tokens) == [json.dumps(messages[4])]


# --- hub data sets ----------------------------------------------------------------------------


def hub_row(turn: int, language: str = "English", text: str = "hi there") -> dict:
    conversation = [
        {"content": f"{text} {i}", "country": None, "role": ("user", "assistant")[i % 2]}
        for i in range(2 * turn)
    ]
    return {"model": "m", "conversation": conversation, "turn": turn, "language": language}


ROWS = [hub_row(2), hub_row(3), hub_row(3, text="\u4f60\u597d" * 40), hub_row(4, "French")]


@pytest.fixture(params=["parquet", "jsonl"])
def hub_folder(request, tmp_path) -> Path:
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS[:2]), tmp_path / "a.parquet")
        pq.write_table(pa.Table.from_pylist(ROWS[2:]), tmp_path / "b.parquet")
    else:
        write_lines(tmp_path / "all.jsonl", ROWS)
    return tmp_path


def test_lmsys_filters_and_counts_words_in_json(hub_folder):
    first, second = read("lmsys", hub_folder, sessions=2, min_turns=3, path=hub_folder)
    assert [len(first.turns), len(second.turns)] == [3, 4]
    assert first.turns[0].user_words == 2
    assert json.loads(texts(first.turns[0].input_tokens)[0])["content"] == "hi there 0"


def test_wildchat_is_english_and_drops_the_bookkeeping(hub_folder):
    (session,) = read("wildchat", hub_folder, sessions=1, min_turns=3, path=hub_folder)
    assert texts(session.turns[0].input_tokens) == ['{"content": "hi there 0", "role": "user"}']
    with pytest.raises(DataError, match="only 1 conversations that fit"):
        read("wildchat", hub_folder, sessions=2, min_turns=3, path=hub_folder)


def test_lmsys_counts_the_reply_towards_the_limit(tmp_path):
    write_lines(tmp_path / "a.jsonl", [hub_row(2)])
    (whole,) = read("lmsys", tmp_path, sessions=1, min_turns=1, path=tmp_path)
    limit = len(whole.turns[1].input_tokens)
    options = {"sessions": 1, "min_turns": 1, "max_tokens": limit, "path": tmp_path}
    (lmsys,) = read("lmsys", tmp_path, **options)
    (wildchat,) = read("wildchat", tmp_path, **options)
    assert (len(lmsys.turns), lmsys.drawn_turns) == (1, 2)
    assert len(wildchat.turns) == 2


def test_mostly_ascii():
    assert mostly_ascii([{"content": "a"}])
    assert not mostly_ascii([{"content": "\u4f60" * 100}])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"turn": 3}, "has no conversation"),
        ({"turn": "3", "conversation": []}, "'turn' is no number"),
        ({"turn": 3, "conversation": [{"role": "user"}]}, "lacks role or content"),
    ],
)
def test_rows_of_another_data_set(tmp_path, row, message):
    write_lines(tmp_path / "a.jsonl", [row])
    with pytest.raises(DataError, match=rf"a\.jsonl:1: .*{message}"):
        read("lmsys", tmp_path, path=tmp_path / "a.jsonl")


def test_damaged_and_missing_hub_files(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"a\.parquet: not a parquet file"):
        read("lmsys", tmp_path, path=tmp_path)
    with pytest.raises(DataError, match="no parquet or jsonl file here"):
        read("lmsys", tmp_path, path=tmp_path / "absent")


def test_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", refuse)
    with pytest.raises(UnavailableError, match=r"lmsys-chat-1m \(no route to host\).*'path'"):
        read("lmsys", tmp_path)


# --- Mooncake ---------------------------------------------------------------------------------

# written by hand in the published format; no line is from the published traces
MOONCAKE = """\
{"timestamp": 0, "input_length": 1300, "output_length": 3, "hash_ids": [0, 1, 2]}
{"timestamp": 2999, "input_length": 1024, "output_length": 2, "hash_ids": [0, 1]}
{"timestamp": 2999, "input_length": 1300, "output_length": 0, "hash_ids": [0, 1, 2]}
{"timestamp": 6000, "input_length": 1536, "output_length": 1, "hash_ids": [0, 1, 9007199254740993]}
{"timestamp": 6000, "input_length": 5, "output_length": 1, "hash_ids": [7]}
"""


@pytest.fixture
def mooncake_file(tmp_path) -> Path:
    path = tmp_path / "mooncake.jsonl"
    path.write_text(MOONCAKE)
    return path


def test_mooncake_prompts_are_alike_as_far_as_their_hashes(mooncake_file):
    requests = list(mooncake.read_requests(mooncake_file))
    rows = [json.loads(line) for line in MOONCAKE.splitlines()]
    assert [r.ts for r in requests] == [0, 2.999, 2.999, 6, 6]
    assert [len(r.input_tokens) for r in requests] == [row["input_length"] for row in rows]
    assert [len(r.output_tokens) for r in requests] == [row["output_length"] for row in rows]
    assert len({r.session_id for r in requests}) == 5
    for a, left in zip(requests, rows, strict=True):
        for b, right in zip(requests, rows, strict=True):
            shared = 512 * common(left["hash_ids"], right["hash_ids"])
            shared = min(shared, left["input_length"], right["input_length"])
            assert common(a.input_tokens.tolist(), b.input_tokens.tolist()) == shared
    prompts = np.concatenate([r.input_tokens for r in requests])
    assert not set(prompts.tolist()) & {t for r in requests for t in r.output_tokens.tolist()}


def test_mooncake_as_a_source(mooncake_file, tmp_path):
    workload = load_workload("mooncake", {"path": mooncake_file, "sessions": 5})
    assert workload.n_in.tolist() == [1300, 1024, 1300, 1536, 5]
    assert workload.drawn_turns.tolist() == [1] * 5
    assert workload.recorded_ts.tolist() == [0, 2.999, 2.999, 6, 6]
    recorded = workload.schedule(RecordedArrivals().timestamps(workload))
    assert recorded.digest() == Trace.build(mooncake.read_requests(mooncake_file)).digest()
    shorter = {"path": mooncake_file, "sessions": 2, "max_tokens": 1024}
    assert load_workload("mooncake", shorter).n_in.tolist() == [1024, 5]
    long = {"timestamp": 0, "input_length": 120_001, "output_length": 1, "hash_ids": [*range(235)]}
    write_lines(tmp_path / "long.jsonl", [long])
    with pytest.raises(DataError, match="only 0 conversations that fit"):
        load_workload("mooncake", {"path": tmp_path / "long.jsonl", "sessions": 1})


def test_mooncake_prompts_may_continue_earlier_requests(tmp_path):
    def line(length: int, output: int, hashes: list[int]) -> dict:
        return {"timestamp": 0, "input_length": length, "output_length": output, "hash_ids": hashes}

    rows = [
        line(1030, 600, [0, 1, 2]),
        line(1640, 9, [0, 1, 3, 4]),  # the first, its output, ten tokens more
        line(1029 + 600, 9, [0, 1, 5, 6]),  # too short for that
        line(1800, 9, [0, 1, 3, 7]),  # the second and its output
        line(1640, 9, [0, 1, 3, 10]),  # as long as the second, another last block
        line(600, 5, [0, 8]),
        line(700, 5, [0, 9]),  # shares no more than all do
    ]
    write_lines(tmp_path / "t.jsonl", rows)
    options = {"path": tmp_path / "t.jsonl", "sessions": 7}
    apart = load_workload("mooncake", options)
    continued = load_workload("mooncake", options | {"continued": True})
    assert continued.n_in.tolist() == apart.n_in.tolist()
    assert continued.n_out.tolist() == apart.n_out.tolist()
    first, second, third, fourth, fifth, *_ = (continued.input_tokens(i).tolist() for i in range(7))
    assert common(first + continued.output_tokens(0).tolist(), second) == 1630
    assert common(second, third) == 1024
    assert common(second + continued.output_tokens(1).tolist(), fourth) == 1649
    assert common(second, fifth) == 1536
    for i in (0, 2, 5, 6):
        assert continued.input_tokens(i).tolist() == apart.input_tokens(i).tolist()


@pytest.mark.parametrize("trace", ["conversation", "synthetic"])
def test_mooncake_traces_are_registered(mooncake_file, tmp_path, monkeypatch, trace):
    with pytest.raises(DataError, match=f"fetch the 'mooncake_{trace}' data set first"):
        load_workload("mooncake", {"trace": trace}, tmp_path)
    mooncake_file.rename(tmp_path / f"mooncake-{trace}-trace.jsonl")
    monkeypatch.setattr(datasets, "checked_path", datasets.local_path)
    workload = load_workload("mooncake", {"trace": trace, "sessions": 5}, tmp_path)
    assert workload.n_in.tolist() == [1300, 1024, 1300, 1536, 5]
    with pytest.raises(ConfigError, match=r"option 'trace': .*'conversation' or 'synthetic'"):
        load_workload("mooncake", {"trace": "toolagent"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hash_ids": [0, 1]}, "hash_ids has 2 blocks, but 1300 tokens take 3 of 512"),
        ({"hash_ids": [0, 1, -1]}, r"hash_ids\.2: .*greater than or equal to 0"),
        ({"input_length": 0, "hash_ids": []}, "input_length: .*greater than or equal to 1"),
        ({"input_length": 2**40}, "input_length: .*less than or equal to 16777216"),
        ({"timestamp": -1}, "timestamp: .*greater than or equal to 0"),
        ({"output_length": "3"}, "output_length: .*valid integer"),
    ],
)
def test_mooncake_names_a_wrong_line(mooncake_file, change, message):
    first, *others = MOONCAKE.splitlines()
    mooncake_file.write_text("\n".join([*others, json.dumps(json.loads(first) | change)]))
    with pytest.raises(TraceError, match=rf"mooncake\.jsonl:5: {message}"):
        list(mooncake.read_requests(mooncake_file))


# --- synthetic --------------------------------------------------------------------------------


def test_synthetic_is_the_same_every_time_and_depends_on_the_seed():
    first, again, other = (
        load_workload("synthetic", {"sessions": 5, "seed": seed}) for seed in (1, 1, 2)
    )
    assert first.digest() == again.digest() != other.digest()


def test_synthetic_agents_resemble_swebench():
    workload = load_workload("synthetic")
    assert len(workload.session_ids) == 100
    assert 9_000 < workload.n_in.mean() < 12_000
    assert 25 < len(workload) / 100 < 45
    assert workload.n_in.max() <= 32768


def test_synthetic_kinds_share_what_they_should():
    chats = load_workload("synthetic", {"mix": {"chat": 1}, "sessions": 30, "seed": 3})
    openings = {tuple(chats.input_tokens(i)[:20].tolist()) for i in np.flatnonzero(chats.turn == 0)}
    assert 1 < len(openings) <= 4  # one of four system prompts
    shots = {"mix": {"few_shot": 1}, "sessions": 30, "system_prompts": {"number": 0}}
    few_shot = load_workload("synthetic", shots)
    assert len(few_shot) == 30
    openings = {tuple(few_shot.input_tokens(i)[:20].tolist()) for i in range(30)}
    assert 1 < len(openings) <= 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"mix": {"agent": 0}},
        {"mix": {"robot": 1}},
        {"vocabulary": 1},
        {"agent": {"turns": {"mean": 0}}},
        {"chat": {"turns": {"mean": 3, "least": 4}}},
        {"chat": {"answer": {"median": 10, "sgima": 1}}},
    ],
)
def test_impossible_knobs_are_refused(wrong):
    with pytest.raises(ConfigError, match="source 'synthetic': option"):
        load_workload("synthetic", wrong)
