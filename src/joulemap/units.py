"""Exact unit ratios. Inside joulemap: joules, watts, seconds, tokens, bytes, hertz; conversions live only here.

A factor named ``A_PER_B`` is the number of A in one B, so that ``value_in_a = value_in_b * A_PER_B``.
"""

from __future__ import annotations

S_PER_MS = 1e-3
S_PER_US = 1e-6
S_PER_NS = 1e-9
S_PER_MINUTE = 60.0
S_PER_HOUR = 3600.0
S_PER_DAY = 86_400.0
S_PER_YEAR = 31_557_600.0
"""Of the Julian year, 365.25 days."""
MS_PER_S = 1e3

J_PER_MJ = 1e-3
"""Joules in one *milli*joule, the unit of NVML's energy counter."""
J_PER_KJ = 1e3
J_PER_MEGAJOULE = 1e6
J_PER_UJ = 1e-6
"""Joules in one microjoule, the unit of Linux powercap (RAPL) counters."""
J_PER_WH = 3600.0
J_PER_KWH = 3.6e6

W_PER_MW = 1e-3
"""Watts in one *milli*watt, the unit of NVML's power reading."""
W_PER_KW = 1e3
W_PER_MEGAWATT = 1e6

BYTES_PER_KB = 1_000
BYTES_PER_MB = 1_000_000
BYTES_PER_GB = 1_000_000_000
BYTES_PER_KIB = 1_024
BYTES_PER_MIB = 1_048_576
BYTES_PER_GIB = 1_073_741_824

HZ_PER_MHZ = 1e6
FLOPS_PER_TFLOPS = 1e12
PARAMS_PER_BILLION = 1e9
