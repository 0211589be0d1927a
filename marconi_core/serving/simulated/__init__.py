"""A server without a GPU: SGLang's HTTP interface in front of the server simulator.

    python -m marconi_core.serving.simulated --model-path FOLDER --port PORT …

It takes the command line of `sglang.launch_server`, predicts the cached tokens of each request, and
lets it wait as long as a latency model says. It exists so that clients, workflow and figures can be
tried and tested everywhere. What it says is no measurement: it is labelled `simulated server`. Modules:
`cache` (what is cached), `latency` (how long it takes), `faults` (what goes wrong on purpose), `app` (the
interface).
"""
