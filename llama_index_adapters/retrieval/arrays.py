"""The type of the arrays that hold vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Vectors, (n, dim) or one of (dim,); whoever takes them says which.
FloatArray = NDArray[np.float32]
