"""What a cache counts, in every release of SGLang."""

from dataclasses import dataclass


@dataclass
class Statistics:
    """What a cache did since it was last flushed.

    Attributes:
        requests, input_tokens, hit_tokens: of admitted requests; a retracted one counts once.
        branch_states: states cached at branch points.
        vetoed_states: states that stock SGLang would have cached.
        uncut_branches: branch points not cached because another prompt was between two chunks.
    """

    requests: int = 0
    input_tokens: int = 0
    hit_tokens: int = 0
    branch_states: int = 0
    vetoed_states: int = 0
    uncut_branches: int = 0

    @property
    def token_hit_rate(self) -> float:
        """Prompt tokens served from the cache / prompt tokens; 0 before the first request."""
        return self.hit_tokens / max(self.input_tokens, 1)
