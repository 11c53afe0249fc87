"""Any other server, by a command that the sweep file states."""

from __future__ import annotations

from dataclasses import dataclass

from joulemap.errors import UsageError
from joulemap.measure.engines.engine import Serving

NAME = "command"
PLACEHOLDERS = ("model", "host", "port", "tensor_parallel", "max_num_seqs", "precision", "max_model_len")


@dataclass(frozen=True, slots=True)
class OwnCommand:
    """A command with placeholders such as ``{port}``."""

    words: tuple[str, ...]
    name: str = NAME
    uses_gpus: bool = True
    image: str | None = None

    def command(self, serving: Serving) -> list[str]:
        """Return the command with its placeholders filled.

        Raises:
            UsageError: A placeholder is unknown.
        """
        values = {name: getattr(serving, name) for name in PLACEHOLDERS}
        filled = {name: "" if value is None else str(value) for name, value in values.items()}
        try:
            return [*(word.format(**filled) for word in self.words), *serving.arguments]
        except (KeyError, IndexError, ValueError) as error:
            msg = f"the command {' '.join(self.words)!r} has a placeholder that cannot be filled: {error}"
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise UsageError(msg, fix=f"placeholders are {known}; a brace itself is written twice") from error
