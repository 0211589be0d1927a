"""What the tests of all SGLang releases share: a server on a CPU, workloads, comparisons.

Two releases cannot be imported side by side: `tests/patch` and `tests/patch_v0_5_6` run in processes
of their own, each with one, and add what differs.
"""
