"""Marconi's cache policies in SGLang 0.5.6.post2; start the server with ``--enable-marconi``.

This folder is not part of SGLang. It was added to the wheel together with changes to six of SGLang's
files, each of which says so at its top. The policies themselves are those of `marconi_core`, the
options those of `marconi_sglang`; both packages have to be installed.
"""

SGLANG_VERSION = "0.5.6.post2"
"""The SGLang release that was patched."""
