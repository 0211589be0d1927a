"""Forward-pass FLOPs and cache bytes per layer kind, as Table 1 and the paper's simulator have them.

Plain integer arithmetic: the same functions serve Python's unbounded integers and compiled code.
Source: Marconi (arXiv 2411.19379), Table 1; where table and simulator differ, the simulator.
"""


def attention_flops(tokens: int, d: int) -> int:
    """FLOPs of one attention layer over `tokens` tokens at model width `d`."""
    return 8 * tokens * d * d + 4 * tokens * tokens * d


def mlp_flops(tokens: int, d: int) -> int:
    """FLOPs of one MLP layer (hidden width 4d, two projections)."""
    return 16 * tokens * d * d


def mamba_flops(tokens: int, d: int, n: int) -> int:
    """FLOPs of one Mamba layer with state dimension `n`."""
    return 12 * tokens * d * d + 16 * tokens * d * n + 10 * tokens * d


def kv_bytes(d: int) -> int:
    """Bytes of one token's keys and values in one attention layer (fp16, no grouped queries)."""
    return 4 * d


def state_bytes(d: int, n: int, expansion: int = 1) -> int:
    """Bytes of one checkpoint of one Mamba layer: SSM state plus convolution state (fp16).

    The convolution part is that of layers twice as wide as the model; the SSM part leaves this
    factor out, as in the paper's simulator, unless `expansion` is 2.
    """
    return expansion * 2 * d * n + 8 * (2 * d + 2 * n)
