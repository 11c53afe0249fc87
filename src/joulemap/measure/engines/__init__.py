"""Engines that joulemap brings along, for machines without a server to measure."""
