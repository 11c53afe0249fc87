"""llama.cpp's server in a process of its own, started by ``embedded``; ends when its stdin does.

``python -m joulemap.measure.engines.llamacpp_process`` reads its settings, one line of JSON, from stdin and
writes its address, one line, to stdout.
"""

from __future__ import annotations

import json
import os
import sys

import xllamacpp  # type: ignore[import-untyped]

WAITING_PROMPTS_CACHED_MIB = 0
"""The server would else keep every past prompt's state in memory, which no measurement wants."""


def main() -> None:
    """Serve until stdin ends."""
    # Whatever the engine writes goes to stderr; stdout is for the address alone.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.readline())
    if asked["cores"]:
        os.sched_setaffinity(0, asked["cores"])
    params = xllamacpp.CommonParams()
    params.model.path = asked["model"]
    params.model_alias = {asked["alias"]}
    params.n_parallel = asked["parallel"]
    params.n_ctx = asked["context_tokens"] * asked["parallel"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.endpoint_metrics = True
    params.cont_batching = True
    params.cache_ram_mib = WAITING_PROMPTS_CACHED_MIB
    params.cpuparams.n_threads = asked["threads"]
    params.cpuparams_batch.n_threads = asked["threads"]
    server = xllamacpp.Server(params)
    out.write(f"{server.listening_address}\n")
    out.flush()
    # The parent holds the other end and never writes: this returns when the parent ends, however it does.
    sys.stdin.read()
    # The server has no way to be stopped, and its threads outlive main.
    os._exit(0)


if __name__ == "__main__":
    main()
