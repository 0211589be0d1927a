"""Marconi's cache policies as a plug-in for SGLang; start the server with ``--enable-marconi``."""

__version__ = "0.1.0"

SGLANG_VERSION = "0.5.16"
"""The SGLang release whose internals this plug-in knows."""
