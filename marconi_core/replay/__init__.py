"""Replay of traces on a live server: `options` says how, `run` does it, `recording` keeps the rows.

Every request is one streamed call of ``/generate`` with token ids; its time to first token and its
cached tokens come from the same call. `traces.prompts` keeps the prefix structure, `slots` the order,
`summary` condenses the rows; `texts` says what texts instead of token ids would lose. Nothing is imported
here, as the configuration needs `options` only.
"""
