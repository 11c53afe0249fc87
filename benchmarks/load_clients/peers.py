"""Make a virtual environment for each of the other load clients: ``python peers.py FOLDER [NAME …]``.

``vllm`` is the environment of ``scripts/make_engine_env.sh vllm``, linked to where one exists.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "aiohttp": ["aiohttp", "orjson", "uvloop"],
    "aiperf": ["aiperf"],
    "guidellm": ["guidellm"],
}
ROOT = Path(__file__).parents[2]
VLLM = ROOT / ".venv-vllm"


def make_vllm(venv: Path) -> bool:
    """Link the environment of the tests against vLLM, made where there is none."""
    if not VLLM.exists() and subprocess.run([str(ROOT / "scripts" / "make_engine_env.sh"), "vllm"]).returncode:
        return False
    venv.unlink(missing_ok=True)
    venv.symlink_to(VLLM)
    return True


def make(name: str, venv: Path) -> bool:
    """Make an environment by uv, without this project's own pins."""
    subprocess.run(["uv", "venv", "--quiet", "--allow-existing", "--python", "3.11", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    install = ["uv", "pip", "install", "--quiet", "--no-config", "--python", python, *PACKAGES[name]]
    return subprocess.run(install).returncode == 0


def main() -> None:
    folder, *names = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names or [*PACKAGES, "vllm"]:
        venv = Path(folder) / name
        print(f"{name} into {venv} …", flush=True)
        if not (make_vllm(venv) if name == "vllm" else make(name, venv)):
            print(f"{name} could not be installed; the benchmark will say so")


if __name__ == "__main__":
    main()
