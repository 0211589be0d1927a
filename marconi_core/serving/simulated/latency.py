"""How long a simulated request takes: as long as a recorded one did."""

from dataclasses import dataclass

from marconi_core.models.latency import PrefillLatency
from marconi_core.serving.recordings import latest_ttft, prefill_fit, prefill_medians


@dataclass(frozen=True)
class Latency:
    """Times of a server.

    Attributes:
        prefill: to the first token.
        output_token_ms: of each token after it.
        speed: how many times faster than that.
    """

    prefill: PrefillLatency
    output_token_ms: float
    speed: float = 1.0

    @classmethod
    def recorded(cls, variant: str, speed: float = 1.0) -> "Latency":
        """Return the fit to the latest recorded times to first token of a variant of stock SGLang."""
        latest = latest_ttft(variant)
        rows = latest.rows()
        decoding = rows[(rows["purpose"] == "decode") & (rows["round"] >= 0)]
        per_token = (decoding["total_ms"] - decoding["ttft_ms"]) / (decoding["output_tokens"] - 1)
        return cls(prefill_fit(prefill_medians(latest)), float(per_token.median()), speed)

    def prefill_s(self, prompt_tokens: int, cached_tokens: int) -> float:
        """Return the seconds to the first token."""
        return float(self.prefill.ms(prompt_tokens, cached_tokens)) / 1e3 / self.speed

    @property
    def output_token_s(self) -> float:
        """Seconds between two output tokens."""
        return self.output_token_ms / 1e3 / self.speed
