"""Random requests, and what no simulated server may do with any: lose a slot, or find what was never there."""

import random

from marconi_core.sim.server import ServerSimulator


def conversations(count: int) -> list[tuple[list[int], list[int]]]:
    """Return prompts and outputs of random conversations; more than half go on from an earlier one."""
    rng = random.Random(1)
    found: list[tuple[list[int], list[int]]] = []
    for _ in range(count):
        earlier, reply = rng.choice(found) if found and rng.random() < 0.6 else ([], [])
        prompt = [*earlier, *reply, *(rng.randrange(50) for _ in range(rng.randint(5, 60)))][:300]
        found.append((prompt, [rng.randrange(50) for _ in range(rng.randint(1, 9))]))
    return found


def serve_at_random(server: ServerSimulator, longest_output: int) -> None:
    """Serve random requests, many of which begin alike; check pools and hit after each of them."""
    rng = random.Random(0)
    tokens, states = server.free_tokens, server.free_states
    seen: list[list[int]] = []
    for _ in range(300):
        prompt = [rng.randrange(3) for _ in range(rng.randint(1, 60))]
        if seen and rng.random() < 0.5:
            prompt = [*rng.choice(seen), *prompt][:90]
        output = [rng.randrange(3) for _ in range(rng.randint(1, longest_output))]
        hit = server.serve(prompt, output).hit
        assert hit < len(prompt)
        assert hit == 0 or any(prompt[:hit] == sequence[:hit] for sequence in seen)
        seen.append(prompt + output)
        tree = server.tree()
        cached = {path[:n] for path in tree for n in range(1, len(path) + 1)}
        assert server.free_tokens + len(cached) == tokens
        assert server.free_states + sum(tree.values()) == states
    assert 0 < server.first_eviction < 100
