"""What a cache counts, in every release of SGLang."""

from dataclasses import dataclass


@dataclass
class Statistics:
    """What a cache did since it was last flushed.

    Attributes:
        requests, input_tokens, hit_tokens: of admitted requests; a retracted one counts once.
        branch_states: states cached at branch points.
        vetoed_states: states that stock SGLang would have cached.
        probation_states: states cached until their request ends, unless another one uses them.
        kept_states: of those, the ones that another request did use.
        deferred_prompts: how often a prompt with a branch point had to wait for the next prefill
            batch, because another was being cut at its own.
        alpha_switches: how often tuning changed alpha.
    """

    requests: int = 0
    input_tokens: int = 0
    hit_tokens: int = 0
    branch_states: int = 0
    vetoed_states: int = 0
    probation_states: int = 0
    kept_states: int = 0
    deferred_prompts: int = 0
    alpha_switches: int = 0

    @property
    def token_hit_rate(self) -> float:
        """Prompt tokens served from the cache / prompt tokens; 0 before the first request."""
        return self.hit_tokens / max(self.input_tokens, 1)
