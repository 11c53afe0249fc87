# The project's chores; 'uv run just' lists them where just itself is not installed.

default:
    @just --list

# Style, format and types
lint:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy

# Mend what ruff can mend
format:
    uv run ruff check --fix .
    uv run ruff format .

# All tests; more words go to pytest
test *words:
    uv run pytest {{ words }}

# Measuring against a real vLLM on the CPU (scripts/make_engine_env.sh vllm makes its environment)
test-vllm *words:
    JOULEMAP_VLLM_PYTHON="${JOULEMAP_VLLM_PYTHON:-.venv-vllm/bin/python}" uv run pytest tests/integration/test_vllm.py {{ words }}

# Models in process: transformers and diffusers (scripts/make_engine_env.sh torch makes the environment)
test-torch *words:
    "${JOULEMAP_TORCH_PYTHON:-.venv-torch/bin/python}" -m pytest tests/measure/in_process {{ words }}

# Documentation into site/
docs: cli-reference
    NO_MKDOCS_2_WARNING=1 uv run mkdocs build --strict

# Benchmarks (import, study, start-up …)
bench *words:
    uv run pytest benchmarks --benchmark-enable --benchmark-only {{ words }}

# Write docs/cli.md from the commands themselves
cli-reference:
    uv run python scripts/cli_reference.py

# Pin every dependency; --upgrade takes the newest versions
lock *words:
    uv run python scripts/lock.py {{ words }}

# What must hold before a change is taken
ci:
    .ci/run
