"""Answers like an SGLang server with random weights; environment variable FAKE says what goes wrong.

``die``: ends at once with status 3. ``never``: never healthy. ``stubborn``: ignores SIGTERM. ``family``:
has a child in its own session, which writes its process id to FAKE_CHILD and ignores SIGTERM.
``broken_stream``: streams stop in the middle. ``crash``: dies on the first prompt. ``other_version``.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = os.environ.get("FAKE", "").split()
CHUNK = 128
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in (
        "--model-path", "--served-model-name", "--host", "--context-length", "--attention-backend",
        "--cuda-graph-max-bs-decode", "--tensor-parallel-size", "--sampling-backend",
        "--grammar-backend", "--uvicorn-access-log-exclude-prefixes", "--load-format",
        "--tokenizer-path", "--mamba-radix-cache-strategy", "--max-mamba-cache-size",
        "--max-total-tokens", "--max-running-requests", "--chunked-prefill-size",
        "--mamba-ssm-dtype",
    ):  # fmt: skip
        parser.add_argument(flag)
    parser.add_argument("--port", type=int)
    for flag in (
        "--enable-cache-report", "--skip-tokenizer-init", "--disable-prefill-cuda-graph",
        "--enable-metrics", "--disable-radix-cache", "--disable-overlap-schedule",
    ):  # fmt: skip
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    json.loads((Path(options.model_path) / "config.json").read_text())

    print("loading", options.served_model_name, flush=True)
    print("GPUs", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    if "die" in FAULTS:
        print("RuntimeError: no kernel image for this device", file=sys.stderr, flush=True)
        sys.exit(3)
    if "stubborn" in FAULTS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "family" in FAULTS:
        child = subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=True)
        Path(os.environ["FAKE_CHILD"]).write_text(str(child.pid))
    if "never" in FAULTS:
        time.sleep(600)
    print(
        "Mamba Cache is allocated. max_mamba_cache_size: 253, conv_state size: 0.35GB, "
        "ssm_state size: 23.81GB "
    )
    print("KV Cache is allocated. dtype: torch.bfloat16, #tokens: 1760000, K size: 13.43 GB, "
          "V size: 13.43 GB")  # fmt: skip
    cache = "ChunkCache" if options.disable_radix_cache else "UnifiedRadixCache"
    print(f"Tree cache initialized: source=default impl={cache} hybrid_swa=False hybrid_ssm=True "
          "hierarchical=False streaming_wrapped=False", flush=True)  # fmt: skip
    server = ThreadingHTTPServer((options.host, options.port), Handler)
    server.options, server.ends, server.healthy_at = options, [], time.monotonic() + 0.2
    server.serve_forever()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        options = self.server.options
        if self.path == "/health":
            self.reply(b"", 200 if time.monotonic() > self.server.healthy_at else 503)
        elif self.path == "/v1/models":
            self.json({"data": [{"id": options.served_model_name}]})
        elif self.path == "/server_info":
            memory = {"weight": 15.1, "kvcache": 26.86, "token_capacity": 1760000, "graph": 0.5}
            state = {"memory_usage": memory, "effective_max_running_requests_per_dp": 50}
            version = "0.5.99" if "other_version" in FAULTS else "0.5.16"
            self.json({"version": version, "page_size": 1, "internal_states": [state]})
        elif self.path == "/metrics":
            self.reply(b'# HELP x\nsglang:num_running_reqs{model="a b",n="1"} 2.0\nup 1\n')
        else:
            self.reply(b"no such page", 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.path == "/flush_cache":
            self.server.ends.clear()
            self.reply(b"flushed")
        elif self.path == "/generate":
            self.generate(body)
        elif self.path in ("/v1/completions", "/v1/chat/completions"):
            choice = {"text": "x", "message": {"content": "x"}}
            self.json({
                "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 4},
            })  # fmt: skip
        else:
            self.reply(b"no such page", 404)

    def generate(self, body):
        options, prompt = self.server.options, body["input_ids"]
        if "crash" in FAULTS:
            print("CUDA error: device-side assert triggered", flush=True)
            os._exit(9)
        if len(prompt) > int(options.context_length):
            self.reply(b'{"error": "too long"}', 400)
            return
        count = body["sampling_params"]["max_new_tokens"]
        hits = [len(end) for end in self.server.ends if end == prompt[: len(end)]]
        cached = max(hits, default=0)
        kept = len(prompt)
        if options.mamba_radix_cache_strategy == "extra_buffer":
            kept -= kept % CHUNK
        if not options.disable_radix_cache:
            self.server.ends.append(prompt[:kept])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(count):
            meta = {
                "prompt_tokens": len(prompt), "cached_tokens": cached, "completion_tokens": i + 1,
            }  # fmt: skip
            self.chunk(json.dumps({"output_ids": list(range(i + 1)), "meta_info": meta}))
            if "broken_stream" in FAULTS:
                self.wfile.write(b"0\r\n\r\n")
                return
            time.sleep(0.002)
        self.chunk("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, data):
        line = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def json(self, content):
        self.reply(json.dumps(content).encode())

    def reply(self, content, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    main()
