"""The one type of physics: a float, or an array of them, element by element."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
FloatOrArray: TypeAlias = Any
"""A float or a float array: NumPy's rules of broadcasting hold, and a float in gives a float out."""
