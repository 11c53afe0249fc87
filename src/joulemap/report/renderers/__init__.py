"""Documents as text, Markdown, HTML and pictures."""
