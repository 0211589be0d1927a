"""Answers like SGLang's load generator; environment variable FAKE_BENCH says what goes wrong."""

import argparse
import json
import os
import sys
from pathlib import Path

FAULTS = os.environ.get("FAKE_BENCH", "").split()


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--backend", "--base-url", "--model", "--tokenizer", "--seed", "--dataset-name"):
        parser.add_argument(flag)
    for flag in ("--disable-tqdm", "--flush-cache"):
        parser.add_argument(flag, action="store_true")
    for flag in (
        "--gsp-num-groups", "--gsp-prompts-per-group", "--gsp-system-prompt-len",
        "--gsp-question-len", "--gsp-output-len", "--max-concurrency",
    ):  # fmt: skip
        parser.add_argument(flag, type=int, required=True)
    parser.add_argument("--output-file", type=Path)
    options = parser.parse_args()
    assert (Path(options.tokenizer) / "tokenizer.json").is_file()
    if "die" in FAULTS:
        sys.exit("ValueError: no such data set")
    completed = options.gsp_num_groups * options.gsp_prompts_per_group - ("lose" in FAULTS)
    result = {"completed": completed, "median_ttft_ms": 12.5, "unused": 1}
    options.output_file.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
