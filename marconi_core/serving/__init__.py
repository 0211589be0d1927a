"""Live servers: describe, launch, watch and stop SGLang; pack its environment; check and time it.

This package never imports SGLang or torch: a server is a child process and an HTTP address. Modules:
`spec` (what a server is), `server` (start to stop), `client` (what to ask it), `memory` (what its
log says), `smoke`, `ttft`, `bundle`, `build` and `wheels` (SGLang with Marconi, to be installed).
``python -m marconi_core.serving`` is the command line. Nothing is imported here, so that `bundle` unpacks
on a bare Python.
"""
