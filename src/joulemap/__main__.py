"""``python -m joulemap``."""

from joulemap.cli.app import main

# A process of work apart imports this module too, under another name.
if __name__ == "__main__":
    main()
