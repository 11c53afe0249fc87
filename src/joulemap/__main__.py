"""``python -m joulemap``."""

from joulemap.cli.app import main

main()
