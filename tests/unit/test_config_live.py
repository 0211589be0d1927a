"""The section `live` of the configuration."""

from pathlib import Path
from typing import Any

import pytest

from marconi_core.config import load_config
from marconi_core.config.live import LiveConfig, Pools
from marconi_core.errors import ConfigError
from marconi_core.serving.spec import ServerSpec

TRACE = "chats_sps=1_nums=3"


def content(**live: Any) -> dict[str, Any]:
    return {
        "datasets": {
            "chats": {
                "source": "sharegpt",
                "sessions": 3,
                "arrivals": {"kind": "typing", "sessions_per_second": [1]},
                "capacities_bytes": [1e9],
            }
        },
        "live": {"traces": [TRACE], "replay": {"concurrency": 2}, **live},
    }


def live(**fields: Any) -> LiveConfig:
    section = load_config(content(**fields)).live
    assert section is not None
    return section


def test_every_variant_meets_every_pool_but_no_cache_only_one() -> None:
    section = live(variants=["no_cache", "marconi@0.5"], states=[40, 160])
    assert list(section.pools) == [
        Pools("no_cache", 40),
        Pools("marconi@0.5", 40),
        Pools("marconi@0.5", 160),
    ]
    assert section.spec(Pools("marconi@0.5", 160)) == ServerSpec(
        variant="marconi", alpha=0.5, model="nemotron_h_8b", max_mamba_cache_size=160
    )


def test_the_words_of_the_command_line_give_the_same_server() -> None:
    section = live(
        server="simulated",
        kv_tokens=9000,
        site="/opt/site",
        settings={"extra_flags": ["--simulated-speed", "9"], "max_running_requests": 4},
    )
    words = section.server_words("marconi@1", 40)
    assert words[-2:] == ["--site", "/opt/site"]
    fields = dict(word.split("=", 1) for word in words[words.index("--set") + 1 : -2])
    fields["extra_flags"] = fields["extra_flags"].split()  # type: ignore[assignment]
    fields |= {"variant": words[1], "model": words[3]}
    assert ServerSpec.of(fields) == section.spec(Pools("marconi@1", 40))
    sizes = " ".join(section.server_words("marconi@1"))
    assert "max_mamba_cache_size" not in sizes and "max_total_tokens" not in sizes


def test_only_what_is_set_is_said_to_the_client() -> None:
    section = live(replay={"concurrency": 2, "timeout_s": 5}, repeats=3)
    assert section.replay_words() == [
        "--repeats", "3", "--concurrency", "2", "--timeout-s", "5.0",
    ]  # fmt: skip


def test_file_names_tell_the_vocabulary(tmp_path: Path) -> None:
    own = tmp_path / "tokenizer.json"
    own.touch()
    names = [live(tokenizer=t).vocabulary for t in ("tekken", "keep", str(own))]
    assert names == ["tekken", "llama2", "own"]


def test_made_up_tokens_are_not_translated(tmp_path: Path) -> None:
    for source, arrivals in (("synthetic", "sps=1"), ("mooncake", "recorded")):
        configuration = content()
        chats = configuration["datasets"]["chats"]
        chats["source"] = source
        if source == "mooncake":
            chats["arrivals"] = {"kind": "recorded"}
        trace = f"chats_{arrivals}_nums=3"
        configuration["live"]["traces"] = [trace]
        with pytest.raises(ConfigError) as caught:
            load_config(configuration)
        said = f"live.traces: {trace} has made-up tokens (source `{source}`), which no"
        assert said in str(caught.value)
        configuration["live"]["tokenizer"] = "keep"
        [role] = load_config(configuration).roles(["chats"])
        assert role.label == ("chats (made-up tokens)" if source == "mooncake" else "chats")
        chats["trace_dir"] = str(tmp_path)  # ready traces are of texts, in Llama-2's tokens
        del configuration["live"]["tokenizer"]
        load_config(configuration)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variants": ["marcony"]}, "live: marcony: variant: unknown variant 'marcony'"),
        ({"variants": ["no_buffer@1"]}, "live: no_buffer@1: server: alpha: no_buffer has no"),
        ({"traces": ["chat_sps=1_nums=3"]}, f"live.traces: unknown trace `chat_sps=1_nums=3`; did you mean `{TRACE}`?"),
        ({"replay": {}}, "live.replay: give speed, concurrency or both"),
        ({"replay": {"concurency": 1}}, "live.replay.concurency: unknown key; did you mean `concurrency`?"),
        ({"tokenizer": "absent.json"}, "live.tokenizer: absent.json is no file"),
        ({"settings": {"colour": 1}}, "colour"),
        ({"states": []}, "live.states"),
    ],
)  # fmt: skip
def test_mistakes_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(content(**fields))
    assert message in str(caught.value)


@pytest.mark.parametrize("graphs", [True, False, [64, 1024]])
def test_a_server_of_the_study_gets_its_prefill_graphs(graphs: object) -> None:
    words = live(settings={"prefill_graphs": graphs}).server_words("extra_buffer")
    [given] = [word for word in words if word.startswith("prefill_graphs=")]
    _, _, value = given.partition("=")
    found = ServerSpec.of({"variant": "extra_buffer", "model": "m", "prefill_graphs": value})
    assert found.prefill_graphs == (tuple(graphs) if isinstance(graphs, list) else graphs)
