"""What lengths a request may have."""

from marconi_core.errors import PolicyError


def check_lengths(prompt: int, output: int, context: int | None = None) -> None:
    """Refuse a request that servers refuse, whatever their pools.

    Args:
        prompt, output: its tokens.
        context: tokens that the model takes, prompt and output together; None for any number.

    Raises:
        PolicyError: one part is empty, or both are longer than the context.
    """
    if prompt < 1 or output < 1:
        raise PolicyError("a request needs at least one prompt token and one output token")
    if context is not None and prompt + output > context:
        raise PolicyError(
            f"{prompt} prompt and {output} output tokens are longer than the model's context of "
            f"{context} tokens; set context_length"
        )
