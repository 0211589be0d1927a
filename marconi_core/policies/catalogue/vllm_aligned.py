"""The admission that vLLM came to ship for hybrid models, in the paper's one-pool cache.

Of a sequence, the state at its last full block is kept; and the state where sequences part, once a
second sequence shows that they do, at the last full block before. Eviction is LRU.
"""

from marconi_core.policies.base import Policy

BLOCK = 32  # tokens, as vLLM+ has it; vLLM itself takes larger ones for large states

POLICIES = (Policy("vllm_aligned", "vLLM aligned", "#882255", "judicious", "lru", alignment=BLOCK),)
