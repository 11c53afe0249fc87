"""Short names of GPUs from the long ones that drivers report."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"^(NVIDIA|AMD|Tesla|Instinct|GeForce|Graphics Device|\s)+", re.IGNORECASE)
_SHORT = re.compile(
    r"\b(GB300|GB200|GH200|B300|B200|B100|H200|H100|H800|H20|A100|A800|A40|A30|A10G?|L40S?|L4|T4|V100|"
    r"MI3\d\dX|MI2\d\dX?|RTX\s\w+(?:\s\w+)*)\b",
    re.IGNORECASE,
)


def short_gpu_name(name: str) -> str:
    """Return the short name of a GPU; the given one where it is not known.

    The catalog tells apart variants of one name that differ in memory or bus, so these stay apart here.

    >>> short_gpu_name("NVIDIA H100 80GB HBM3"), short_gpu_name("NVIDIA A100-SXM4-40GB"), short_gpu_name("B200")
    ('H100', 'A100-40GB', 'B200')
    """
    stripped = _PREFIX.sub("", name).strip()
    found = _SHORT.search(stripped)
    if found is None:
        return stripped or name
    short = found.group(1).upper()
    if short == "H100" and "PCIE" in stripped.upper():
        return "H100-PCIe"
    if short == "H100" and "NVL" in stripped.upper().split():
        return "H100-NVL"
    if short == "A100" and "40GB" in stripped.upper():
        return "A100-40GB"
    return short


def is_gpu_name(name: str) -> bool:
    """Return whether the whole of a name is that of a known GPU, for example a folder's.

    >>> is_gpu_name("h100"), is_gpu_name("results"), is_gpu_name("my-h100-notes")
    (True, False, False)
    """
    stripped = _PREFIX.sub("", name).strip()
    found = _SHORT.match(stripped)
    return (
        found is not None
        and re.fullmatch(r"(-?(SXM\d?|PCIe|NVL|\d+GB))*", stripped[found.end() :], re.I) is not None
    )
