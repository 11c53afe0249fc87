"""Reports: payloads and documents made once, charts declared once, renderers that compute nothing."""
