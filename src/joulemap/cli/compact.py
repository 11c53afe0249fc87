"""``joulemap compact``."""

from __future__ import annotations

from joulemap.cli.output import Common, print_json
from joulemap.cli.progress import LateProgress


def compact_store(*, common: Common | None = None) -> None:
    """Join a store's many small files into few, so that it is read and scanned faster.

    Nothing is lost whenever it is interrupted, and others may read and write the store meanwhile.

    Args:
        common: Store and output.
    """
    options = common or Common()
    store = options.open()
    store.non_empty_run_ids()
    parts_before, parts_after = store.compact()
    with LateProgress() as progress:

        def packed(done: int, total: int) -> None:
            progress.update("packing timelines", done, total)

        files, packs = store.timelines.compact(packed)
    if options.json:
        print_json(
            {
                "store": store.address,
                "parts": {"before": parts_before, "after": parts_after},
                "timelines": {"packed_files": files, "new_packs": packs},
            }
        )
        return
    print(f"runs: {_files(parts_before)} became {_files(parts_after)}")  # noqa: T201
    print(f"timelines: {_files(files)} packed into {_files(packs)}")  # noqa: T201


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count:,} files"
