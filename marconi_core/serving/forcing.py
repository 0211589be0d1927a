"""Makes a server reply with given tokens. The only code here that runs inside SGLang.

A request names the processor (`PROCESSOR`) and its tokens (`custom_params`); the server needs
``--enable-custom-logit-processor`` and this package on its path, which `spec.Runtime` sees to. SGLang
synchronizes with the GPU for such a processor, at each token, so that decoding takes longer and overlap
scheduling gains less.
"""

import json
import pickle
from collections.abc import Sequence
from typing import Any

PARAMETER = "forced_tokens"


class ForcedTokens:
    """Gives each request of a batch the next token of its own list."""

    def __call__(self, logits: Any, parameters: Sequence[dict[str, Any]]) -> Any:
        """Leave one token possible in each row.

        Args:
            logits: of the batch, a tensor of requests x vocabulary; changed in place.
            parameters: `custom_params` of the requests; SGLang adds the request itself.
        """
        chosen = []
        for row in parameters:
            request, tokens = row["__req__"], row[PARAMETER]
            # the output's length lags a step under overlap scheduling, the committed length does not
            position = request.kv_committed_len - len(request.origin_input_ids)
            chosen.append(tokens[min(max(position, 0), len(tokens) - 1)])
        index = logits.new_empty(0).long().new_tensor(chosen)  # integers, on the same device
        logits.fill_(float("-inf"))
        return logits.scatter_(1, index[:, None], 0.0)


# SGLang unpickles it: a class by its name, so that neither side needs the other's packages
PROCESSOR = json.dumps({"callable": pickle.dumps(ForcedTokens).hex()})
