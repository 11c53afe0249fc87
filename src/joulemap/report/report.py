"""A report on whatever is named: one run, two runs, many, a plan, or the study."""

from __future__ import annotations

from joulemap.errors import UsageError
from joulemap.report.document import Document
from joulemap.store.run_store import RunStore, open_store

_FIX = "joulemap report RUN, or two of them"


def report(*what: str, store: RunStore | None = None) -> Document:
    """Return the report on what is named.

    Args:
        what: One run (an id or a selector) for its diagnosis; two runs for why the first costs more than the
            second.
        store: The run store; the default one if ``None``.

    Raises:
        UsageError: What is named cannot be reported on.
        SelectorError: A selector matches no run.
        EmptyStoreError: There are no runs.
    """
    runs = store if store is not None else open_store()
    if len(what) == 1:
        from joulemap.report.documents.run import run_document
        from joulemap.report.payloads.run import run_payload

        return run_document(run_payload(what[0], store=runs))
    if len(what) == 2:
        from joulemap.report.documents.explanation import explanation_document
        from joulemap.report.payloads.explanation import explanation_payload

        return explanation_document(explanation_payload(*what, store=runs))
    msg = f"{len(what)} things are named" if what else "nothing is named to report on"
    raise UsageError(msg, fix=_FIX)
