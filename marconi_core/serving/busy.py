"""A server that decodes for others while it is measured."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from marconi_core.serving.client import Client
from marconi_core.serving.errors import ServingError


@contextmanager
def decoding(
    client: Client, prompts: Sequence[Sequence[int]], output_tokens: int
) -> Iterator[None]:
    """Have the server decode requests until the block is left; enter when each has its first token.

    Args:
        prompts: one per request.
        output_tokens: of each; more than the server can make meanwhile.

    Raises:
        ServingError: a request failed, or came to its end within the block.
    """
    left = Event()

    def follow(prompt: Sequence[int], begun: Event) -> None:
        def stays() -> bool:
            begun.set()
            return not left.is_set()

        try:
            client.generate(prompt, output_tokens, on_token=stays)
        finally:
            begun.set()  # who waits for one that failed must not wait for ever

    with ThreadPoolExecutor(max(len(prompts), 1)) as pool:
        begun = [Event() for _ in prompts]
        requests = [pool.submit(follow, *pair) for pair in zip(prompts, begun, strict=True)]
        try:
            for event in begun:
                event.wait()
            yield
            ended = sum(request.done() for request in requests)
        finally:
            left.set()
    for request in requests:
        request.result()
    if ended:
        raise ServingError(
            f"{client.url}: {ended} of {len(requests)} requests that were to keep the server busy ended "
            f"before what was measured beside them, after {output_tokens} output tokens; give them more, or "
            "measure without them (`ttft --others`, with no number)"
        )
