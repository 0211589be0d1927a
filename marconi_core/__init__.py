"""Prefix caching for hybrid LLMs: traces, policies, simulators and live replay for Marconi (arXiv 2411.19379)."""

__version__ = "0.1.0"
