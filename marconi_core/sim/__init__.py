"""Simulators: a policy against a compiled trace (`simulation`, `sweep`), and a server (`server`)."""
