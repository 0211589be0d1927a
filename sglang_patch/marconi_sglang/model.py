"""What a served model's prefixes cost: FLOPs from its config, bytes from SGLang's own pools."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marconi_core.errors import ModelError
from marconi_core.models.cost import CostModel, Polynomial
from marconi_core.models.huggingface import model_from_config


@dataclass(frozen=True)
class ServedModel(CostModel):
    """A model with the sizes that it has on this server, whatever number types were chosen."""

    kv_bytes: int
    slot_bytes: int
    flops_by_kind: Mapping[str, Polynomial]

    @property
    def kv_bytes_per_token(self) -> int:
        return self.kv_bytes

    @property
    def state_bytes(self) -> int:
        return self.slot_bytes

    @property
    def prefill_by_kind(self) -> Mapping[str, Polynomial]:
        return self.flops_by_kind


def model_costs(context: Any) -> ServedModel:
    """Return the costs of the model that a cache is being built for.

    Raises:
        ModelError: the model's family is unknown, or its config is broken.
    """
    name = str(context.model_config.model_path)
    model = model_from_config(_config(context.model_config), name)
    params = context.params
    return ServedModel(
        kv_bytes=token_bytes(params.token_to_kv_pool_allocator.get_kvcache()),
        slot_bytes=slot_bytes(params.req_to_token_pool.mamba_pool),
        flops_by_kind=model.prefill_by_kind,
    )


def token_bytes(pool: Any) -> int:
    """Return the bytes of one token in a KV pool, all layers."""
    buffers = [*pool.full_kv_pool.k_buffer, *pool.full_kv_pool.v_buffer]
    return sum(buffer[0].nbytes for buffer in buffers)


def slot_bytes(pool: Any) -> int:
    """Return the bytes of one slot in a state pool, all layers: convolution and recurrent states."""
    states = [*pool.mamba_cache.conv, pool.mamba_cache.temporal]
    return sum(state[:, 0].nbytes for state in states)


def _config(model_config: Any) -> Mapping[str, Any]:
    """Return the model's config as in its file, or as SGLang holds it if there is no such file."""
    file = Path(model_config.model_path) / "config.json"
    if file.is_file():
        try:
            content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{file}: not JSON ({error})") from None
        return content
    values: Mapping[str, Any] = model_config.hf_config.to_dict()
    return values
