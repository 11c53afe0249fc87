"""The engines that sweeps can start: joulemap's own, and those of installed packages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from joulemap.errors import UnknownNameError, UsageError
from joulemap.measure.engines import own_command, sglang, vllm
from joulemap.measure.engines.engine import EngineTemplate

ENTRY_POINT_GROUP = "joulemap.engines"
"""Third parties register an instance of :class:`EngineTemplate`; their names cannot replace joulemap's own."""
EMBEDDED = "embedded"
"""The engine that joulemap brings along, which is started without a command."""
_OWN: tuple[EngineTemplate, ...] = (vllm.ENGINE, sglang.ENGINE)


def engine_names() -> list[str]:
    """Return every engine's name."""
    third = [point.name for point in entry_points(group=ENTRY_POINT_GROUP)]
    return list(dict.fromkeys([EMBEDDED, *(e.name for e in _OWN), own_command.NAME, *third]))


def engine_named(name: str, command: Sequence[str] = ()) -> EngineTemplate:
    """Return an engine.

    Args:
        name: Its name.
        command: The words of the engine ``command``.

    Raises:
        UnknownNameError: There is none of that name.
        UsageError: An installed package registers something else under it.
    """
    for engine in _OWN:
        if engine.name == name:
            return engine
    if name == own_command.NAME:
        return own_command.OwnCommand(tuple(command))
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            loaded = point.load()
            if not isinstance(loaded, EngineTemplate) or isinstance(loaded, type):
                msg = f"{point.value} registers {loaded!r} as an engine, which is none"
                raise UsageError(msg, fix="uninstall or mend the package that provides it")
            return loaded
    kind = "engine"
    raise UnknownNameError(kind, name, engine_names())


def uses_gpus(name: str) -> bool:
    """Return whether an engine computes on GPUs; errors as :func:`engine_named`."""
    return name != EMBEDDED and engine_named(name).uses_gpus
