"""Payloads arranged for readers, as sections of texts, tables and charts: one file a kind."""
