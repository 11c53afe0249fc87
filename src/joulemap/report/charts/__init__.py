"""Charts of computed values, declared once: one file a chart. They need the extra ``plots``."""
