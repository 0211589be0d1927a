"""The policies of the paper's figures."""

from marconi_core.policies.base import Policy

POLICIES = (
    Policy("vllm_plus", "vLLM+", "#999999", "blocks", "lru"),
    Policy("sglang_plus", "SGLang+", "#E69F00", "judicious", "lru"),
    Policy("marconi", "Marconi", "#0072B2", "judicious", "flop_aware", "tuned"),
    Policy("oracle", "Oracle", "#56B4E9", "judicious", "flop_aware", "static"),
)
