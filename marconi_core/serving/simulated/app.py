"""SGLang's HTTP interface, as far as this project speaks it.

Without a tokenizer, the bytes of a text are its tokens.
"""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from marconi_core.errors import PolicyError
from marconi_core.serving.forcing import PARAMETER
from marconi_core.serving.simulated.engine import Engine, Progress, made_up
from marconi_core.serving.simulated.faults import Fault, at

DEFAULT_OUTPUT_TOKENS = 128  # SGLang's
HANG_S = 3600.0


class SimulatedServer:
    """The interface of one server.

    Args:
        engine: serves.
        name: of the model.
        info: what ``/server_info`` answers.
        forcing: whether requests may bring a logit processor.
        faults: what goes wrong on purpose.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        info: Mapping[str, Any],
        *,
        forcing: bool = False,
        faults: Sequence[Fault] = (),
    ) -> None:
        self._engine, self._name, self._info = engine, name, info
        self._forcing, self._faults = forcing, faults
        self._arrived = 0

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=2**28)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.get("/server_info", self._server_info),
                web.get("/metrics", self._metrics),
                web.post("/flush_cache", self._flush_cache),
                web.post("/generate", self._generate),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat_completions),
            ]
        )
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self._name}]})

    async def _server_info(self, request: web.Request) -> web.Response:
        return web.json_response(dict(self._info))

    async def _metrics(self, request: web.Request) -> web.Response:
        values = {
            "prompt_tokens_total": self._engine.prompt_tokens,
            "cached_tokens_total": self._engine.cached_tokens,
            "num_running_reqs": self._engine.running,
        }
        label = f'{{model_name="{self._name}"}}'
        return web.Response(
            text="".join(f"sglang:{name}{label} {value}\n" for name, value in values.items())
        )

    async def _flush_cache(self, request: web.Request) -> web.Response:
        if not self._engine.flush():
            return web.Response(status=400, text="requests are running")
        return web.Response(text="flushed")

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        self._arrived += 1
        fault = at(self._faults, self._arrived)
        if fault == "die":
            print("a fault was asked for: this server ends", flush=True)
            os._exit(9)
        if fault == "error":
            return _refusal("a fault was asked for", status=500)
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        body = await request.json()
        if body.get("custom_logit_processor") and not self._forcing:
            return _refusal("set --enable-custom-logit-processor to enable custom logit processors")
        sampling = body.get("sampling_params") or {}
        count = int(sampling.get("max_new_tokens", DEFAULT_OUTPUT_TOKENS))
        prompt = body.get("input_ids") or _tokens(body.get("text") or "")
        forced = (sampling.get("custom_params") or {}).get(PARAMETER)
        output = made_up(prompt, count) if forced is None else forced[:count]
        try:
            self._engine.check(prompt, count)
            if body.get("stream"):
                interval = sampling.get("stream_interval") or 1
                return await self._stream(request, prompt, output, interval, fault == "disconnect")
            return web.json_response(_reply(prompt, await self._last(prompt, output)))
        except PolicyError as error:
            return _refusal(str(error))

    async def _stream(
        self,
        request: web.Request,
        prompt: list[int],
        output: list[int],
        interval: int,
        disconnects: bool,
    ) -> web.StreamResponse:
        """Answer with server-sent events, each with all tokens so far."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            async for progress in self._engine.serve(prompt, output, interval):
                await response.write(_event(_reply(prompt, progress)))
                if disconnects and request.transport is not None:
                    request.transport.abort()
                    return response
        except PolicyError as error:
            await response.write(_event({"error": {"message": str(error)}}))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _completions(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt = body["prompt"]
        return await self._text(
            body, _tokens(prompt) if isinstance(prompt, str) else prompt, "text"
        )

    async def _chat_completions(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = "".join(f"{turn['role']}: {turn['content']}\n" for turn in body["messages"])
        return await self._text(body, _tokens(text), "message")

    async def _text(self, body: Mapping[str, Any], prompt: list[int], kind: str) -> web.Response:
        """Answer with a text, all at once."""
        if body.get("stream"):
            return _refusal("the simulated server streams token ids only (/generate)")
        count = int(body.get("max_tokens") or DEFAULT_OUTPUT_TOKENS)
        try:
            self._engine.check(prompt, count)
            progress = await self._last(prompt, made_up(prompt, count))
        except PolicyError as error:
            return _refusal(str(error))
        text = "".join(chr(ord("a") + token % 26) for token in progress.output_ids)
        content: Any = text if kind == "text" else {"role": "assistant", "content": text}
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": count,
            "total_tokens": len(prompt) + count,
            "prompt_tokens_details": {"cached_tokens": progress.cached_tokens},
        }
        choice = {"index": 0, kind: content, "finish_reason": "length"}
        return web.json_response({"model": self._name, "choices": [choice], "usage": usage})

    async def _last(self, prompt: list[int], output: list[int]) -> Progress:
        progress = [state async for state in self._engine.serve(prompt, output, len(output))]
        return progress[-1]


def _tokens(text: str) -> list[int]:
    return list(text.encode())


def _reply(prompt: Sequence[int], progress: Progress) -> dict[str, Any]:
    count = len(progress.output_ids)
    return {
        "output_ids": list(progress.output_ids),
        "meta_info": {
            "finish_reason": {"type": "length", "length": count} if progress.finished else None,
            "prompt_tokens": len(prompt),
            "completion_tokens": count,
            "cached_tokens": progress.cached_tokens,
        },
    }


def _event(content: object) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def _refusal(message: str, status: int = 400) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)
