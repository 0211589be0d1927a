"""Cuts a prompt's prefill at its branch point, by SGLang's chunked prefill."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sglang.srt.managers.schedule_policy import CLIP_MAX_NEW_TOKENS, AddReqResult

from marconi_sglang.cache import MarconiRadixCache

UNLIMITED = 1 << 40
"""Tokens of a chunk when chunked prefill is off."""


def add_one_req(
    original: Callable[..., Any],
    adder: Any,
    req: Any,
    has_chunked_req: bool,
    truncation_align_size: int | None,
) -> Any:
    """Add a waiting request to a prefill batch (`PrefillAdder.add_one_req`).

    SGLang keeps at most one prompt between two chunks. Stock code relies on a cut prompt having used
    up the chunk's budget; one cut at its branch point has not, so what would be cut second has to
    wait here. If its branch point is the same, it finds the state there when its turn comes.
    """
    cache = adder.tree_cache
    if not isinstance(cache, MarconiRadixCache):
        return original(adder, req, has_chunked_req, truncation_align_size)
    to_branch = tokens_to_branch(req)
    if has_chunked_req or adder.new_chunked_req is not None:
        if to_branch is not None:
            cache.statistics.deferred_prompts += 1
            return AddReqResult.OTHER
        if adder.rem_chunk_tokens is not None and tokens_left(req) > adder.rem_chunk_tokens:
            return AddReqResult.OTHER
    if (
        adder.rem_chunk_tokens is None
        and adder.can_run_list
        and tokens_left(req) >= adder.rem_input_tokens
    ):
        return AddReqResult.OTHER  # stock code no longer looks, once a chunk is limited
    with chunk_limit(adder, to_branch):
        outcome = original(adder, req, has_chunked_req, truncation_align_size)
    if adder.can_run_list and adder.can_run_list[-1] is req:
        reserve_rest(adder, req)
        cache.admitted(req, len(req.prefix_indices))
        return adder.budget_state()  # a cut prompt leaves the rest of the budget to others
    return outcome


def add_chunked_req(original: Callable[..., Any], adder: Any, req: Any) -> Any:
    """Add the next chunk of a prompt to a prefill batch (`PrefillAdder.add_chunked_req`)."""
    if not isinstance(adder.tree_cache, MarconiRadixCache):
        return original(adder, req)
    limit = tokens_to_branch(req)
    if limit is None and adder.rem_chunk_tokens is None:
        limit = UNLIMITED  # stock code expects a number here
    with chunk_limit(adder, limit):
        outcome = original(adder, req)
    reserve_rest(adder, req)
    return outcome


def reserve_rest(adder: Any, req: Any) -> None:
    """Keep KV slots for the rest of a prompt that was cut at its branch point, and for its output.

    Stock code need not: a prompt that it cuts has used up the chunk's budget, so that nobody joins
    the batch and takes them.
    """
    end = req.extend_range.end
    rest = len(req.full_untruncated_fill_ids) - end
    if rest and end == getattr(req, "marconi_branch", None):
        output = min(req.sampling_params.max_new_tokens, CLIP_MAX_NEW_TOKENS)
        adder.rem_total_token_offset += rest + output


def tokens_left(req: Any) -> int:
    """Return the tokens that a request has to compute before it decodes."""
    return len(req.full_untruncated_fill_ids) - len(req.prefix_indices)


def tokens_to_branch(req: Any) -> int | None:
    """Return the tokens to compute up to the prompt's branch point; None if it has none ahead."""
    branch = getattr(req, "marconi_branch", None)
    done = len(req.prefix_indices)
    if branch is None or not done < branch < len(req.full_untruncated_fill_ids):
        return None
    return branch - done


@contextmanager
def chunk_limit(adder: Any, limit: int | None) -> Iterator[None]:
    """Let a chunk have at most `limit` tokens; charge the batch's budget with what it took."""
    budget = adder.rem_chunk_tokens
    if limit is None or (budget is not None and budget <= limit):
        yield
        return
    adder.rem_chunk_tokens = limit
    try:
        yield
    finally:
        taken = limit - adder.rem_chunk_tokens
        adder.rem_chunk_tokens = None if budget is None else budget - taken
