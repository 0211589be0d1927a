# ruff: noqa: N999
"""Stands in for IPython, which sglang.utils imports for notebooks."""
