"""A package named like SGLang whose server needs no GPU: what `marconi_core.serving` must cope with."""
