"""The main values as HTML for notebooks."""

from __future__ import annotations

import pkgutil
import uuid
from collections.abc import Callable

from joulemap.errors import MissingExtraError
from joulemap.report.document import WIDE_PX, Document
from joulemap.report.renderers.extra import require_plots
from joulemap.report.renderers.html import blocks_html, stylesheet

DOCUMENTS = {
    "joulemap.diagnose.breakdown.Breakdown": "joulemap.report.documents.breakdown:breakdown_document",
    "joulemap.diagnose.diagnosis.Diagnosis": "joulemap.report.documents.diagnosis:diagnosis_document",
    "joulemap.diagnose.explanation.Explanation": "joulemap.report.documents.explanation:bare_explanation_document",
    "joulemap.optimize.choice.Recommendation": "joulemap.report.documents.recommendation:bare_document",
    "joulemap.optimize.tradeoff.Comparison": "joulemap.report.documents.frontier:comparison_document",
    "joulemap.optimize.tradeoff.Frontier": "joulemap.report.documents.frontier:frontier_document",
    "joulemap.plan.budget.BudgetReport": "joulemap.report.documents.budget:budget_document",
    "joulemap.plan.fleet.FleetPlan": "joulemap.report.documents.plan:bare_plan_document",
    "joulemap.plan.procurement.Comparison": "joulemap.report.documents.gpu_comparison:gpu_comparison_document",
    "joulemap.plan.simulate.simulate.Simulation": "joulemap.report.documents.plan:bare_simulation_document",
    "joulemap.records.estimate.Estimate": "joulemap.report.documents.estimate:estimate_document",
    "joulemap.records.run.Run": "joulemap.report.documents.run:bare_run_document",
}
"""The function that arranges each kind of value."""


def html_of(value: object) -> str | None:
    """Return a value as HTML with its style; ``None`` without the extra ``plots``, or for another kind of value.

    Its charts have colours and a ground of their own, since a notebook's scheme is not known; ids are unique, since
    one value may be shown in many cells.
    """
    try:
        require_plots()
    except MissingExtraError:
        return None
    document = value if isinstance(value, Document) else _document(value)
    if document is None:
        return None
    from markupsafe import Markup

    from joulemap.report.renderers.svg import inline_svg

    prefix = f"j{uuid.uuid4().hex[:8]}-"
    figures = {
        d.name: Markup(inline_svg(d.draw(WIDE_PX), prefix + d.name, own_colours=True)) for d in document.drawings()
    }
    # Nested, the rules hold within this output only.
    style = stylesheet("blocks.css").replace(":root", "&")
    heading = Markup("<p><strong>{}</strong></p><p>{}</p>").format(document.title, document.summary)
    blocks = blocks_html(document, figures, prefix)
    return f'<div class="joulemap"><style>.joulemap {{ {style} }}</style>{heading}{blocks}</div>'


def _document(value: object) -> Document | None:
    target = DOCUMENTS.get(f"{type(value).__module__}.{type(value).__qualname__}")
    if target is None:
        return None
    arrange: Callable[[object], Document] = pkgutil.resolve_name(target)
    return arrange(value)
