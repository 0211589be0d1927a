"""Software agents on SWE-bench: long prompts that change in the middle as observations are dropped.

The paper used the trajectories of the submission ``20240820_honeycomb`` to SWE-bench/experiments.
Who has that folder gives it as `path`. Otherwise the trajectories of mini-swe-agent with Gemini 3
Pro on the same benchmark stand in for them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from marconi_core.errors import DataError
from marconi_core.traces.reading import read_document
from marconi_core.traces.sessions import HistoryRule, Turn, paired_turns, tokenize
from marconi_core.traces.sources.base import Source, SourceParams, checked_messages, first_sessions
from marconi_core.traces.sources.jsonlines import read_json_lines
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens

Messages = list[Mapping[str, Any]]


class SweBenchParams(SourceParams):
    """Options of `swebench`."""

    path: Path | None = Field(
        default=None,
        description="folder of the paper's trajectories (20240820_honeycomb/trajs); "
        "empty takes the stand-in",
    )
    max_turns: PositiveInt = Field(default=51, description="turns after which a session ends")
    keep_observations: PositiveInt = Field(
        default=5, description="latest observations that stay in the prompt; older ones are dropped"
    )


def read(
    params: SweBenchParams, files: Mapping[str, Path], encode: Encoder
) -> Iterator[SessionTokens]:
    """Yield the trajectories in the order of their instance ids."""
    dialogues = (
        read_honeycomb(params.path) if params.path else read_mini_swe_agent(files["swebench"])
    )
    chosen = first_sessions(dialogues, params.sessions, SOURCE.name)
    rule = HistoryRule(
        max_tokens=params.max_tokens,
        max_turns=params.max_turns,
        keep_observations=params.keep_observations,
    )
    return tokenize(map(_agent_turns, chosen), encode, rule)


def read_mini_swe_agent(path: Path) -> Iterator[Messages]:
    """Yield the messages of each line's trajectory.

    The system message is put in front of the first user message, so that user and assistant
    alternate as in the paper's trajectories.
    """
    for place, row in read_json_lines(path, "swebench"):
        messages = checked_messages(row.get("messages"), place)
        try:
            system, task, *rest = messages
            opening = f"{system['content']}\n{task['content']}"
        except (KeyError, ValueError) as error:
            raise DataError(f"{place}: not a trajectory ({error!r}); fetch it again") from error
        yield [{"role": "user", "content": opening}, *rest]


def read_honeycomb(folder: Path) -> Iterator[Messages]:
    """Yield the messages of each file: a JSON array in which user and assistant alternate."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.name)
    if not paths:
        raise DataError(
            f"{folder}: holds no *.json; 'path' must be the folder of SWE-bench/experiments "
            "evaluation/verified/20240820_honeycomb/trajs"
        )
    for path in paths:
        try:
            messages = json.loads(read_document(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not JSON ({error}); download it again") from error
        yield checked_messages(messages, str(path))


def _agent_turns(messages: Messages) -> list[Turn]:
    return paired_turns(messages, (str(m.get("content")).count(" ") for m in messages[0::2]))


SOURCE = Source(
    name="swebench",
    summary="SWE-bench Verified: agent trajectories, old observations dropped from the prompt",
    params=SweBenchParams,
    read=read,
    files_needed=("swebench",),
    stands_in=True,  # for the trajectories of 20240820_honeycomb
)
