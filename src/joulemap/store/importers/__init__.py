"""Importers: results of other tools read as runs, one file a format, recognised by content and layout."""

from joulemap.store.importers.protocol import Importer, ImportHints, Reading
from joulemap.store.importers.reading import ImportedRuns, Stored, import_path, read_path
from joulemap.store.importers.registry import importers

__all__ = [
    "ImportHints",
    "ImportedRuns",
    "Importer",
    "Reading",
    "Stored",
    "import_path",
    "importers",
    "read_path",
]
