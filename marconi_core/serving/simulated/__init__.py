"""A server without a GPU: SGLang's HTTP interface in front of the server simulator.

    python -m marconi_core.serving.simulated --model-path FOLDER --port PORT …

It takes the command line of `sglang.launch_server`, and answers each request with the cached tokens and
after the time that the simulated scheduler says. It exists so that clients, workflow and figures can be
tried and tested everywhere. What it says is no measurement: it is labelled `simulated server`. Modules:
`flags` (the command line, and what it stands for), `engine` (serves in real time), `faults` (what goes
wrong on purpose), `app` (the interface).
"""
