"""SGLang's own load generator on a server: shared prefixes at a steady load, as a sanity check.

The numbers come from SGLang's code, not from ours, so that a fault of the replay client would show.
Prompts are texts: the server needs a tokenizer.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from marconi_core.serving.errors import ServingError
from marconi_core.serving.local_files import with_local_files
from marconi_core.serving.server import Server
from marconi_core.serving.spec import Runtime

TIMEOUT_S = 1800
TAIL_LINES = 30
KEPT = (
    "completed", "duration", "total_input_tokens", "total_output_tokens", "request_throughput",
    "input_throughput", "output_throughput", "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms",
)  # fmt: skip


class Load(BaseModel):
    """The data set ``generated-shared-prefix`` of SGLang."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: PositiveInt = Field(16, description="shared prefixes")
    prompts: PositiveInt = Field(8, description="prompts of each")
    prefix_tokens: PositiveInt = Field(2048, description="length of a shared prefix")
    question_tokens: PositiveInt = Field(128, description="length of what follows it")
    output_tokens: PositiveInt = Field(64, description="generated tokens")
    concurrency: PositiveInt = Field(8, description="requests in flight")

    def words(self) -> list[str]:
        """Return the options of ``sglang.bench_serving``."""
        return [
            "--dataset-name", "generated-shared-prefix",
            "--gsp-num-groups", str(self.groups),
            "--gsp-prompts-per-group", str(self.prompts),
            "--gsp-system-prompt-len", str(self.prefix_tokens),
            "--gsp-question-len", str(self.question_tokens),
            "--gsp-output-len", str(self.output_tokens),
            "--max-concurrency", str(self.concurrency),
        ]  # fmt: skip


def bench_serving(server: Server, runtime: Runtime, load: Load, report: Path) -> dict[str, Any]:
    """Run the load generator; return its main results.

    Args:
        report: SGLang's own full report (JSON lines), written anew.

    Raises:
        ServingError: the server has no tokenizer, or the generator failed (with the end of its output).
    """
    if server.spec.tokenizer is None:
        raise ServingError("bench: prompts are texts; --set tokenizer=FOLDER or a tokenizer.json")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    with with_local_files(server.spec) as placed:
        command = [
            str(runtime.python), "-m", "sglang.bench_serving", "--backend", "sglang",
            "--base-url", server.client.url, "--model", server.spec.served_name,
            "--tokenizer", str(placed.tokenizer), "--seed", "1", "--disable-tqdm", "--flush-cache",
            "--output-file", str(report), *load.words(),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, env=runtime.environment(server.spec), timeout=TIMEOUT_S, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ServingError(f"bench: not done after {TIMEOUT_S} s") from None
    if done.returncode or not report.is_file():
        tail = "\n".join(done.stdout.splitlines()[-TAIL_LINES:])
        raise ServingError(f"bench: sglang.bench_serving ended with {done.returncode}:\n{tail}")
    found = json.loads(report.read_text(encoding="utf-8").splitlines()[-1])
    results = {key: found.get(key) for key in KEPT}
    if results["completed"] != load.groups * load.prompts:
        raise ServingError(
            f"bench: {results['completed']} of {load.groups * load.prompts} requests were answered; "
            f"see {report} and {server.process.log}"
        )
    return results
