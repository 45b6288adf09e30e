"""Error bounds of the gamma functions, for :mod:`chainrule.compiler.bounds`."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def digamma(x: Array) -> Array:
    """The derivative of lgamma: where it changes its sign, that turns."""
    from scipy import special  # not quick to load

    return np.asarray(special.digamma(x))


def error(name: str, ends: list[tuple[Array, Array]]) -> Array:
    """The absolute error of the gamma functions: of the reference kernel near zeros, of reflected arguments' terms."""
    from scipy import special

    u, v = ends[-1]
    eps, size = 2.0**-48, np.maximum(abs(u), abs(v))
    if name == "lgamma":
        terms = np.where(u < 0, 8.0 + 2 * abs(special.gammaln(size)) + 2 * abs(np.log(size)), 1.0)
    elif name == "digamma":
        # the reference kernel's cotangent of pi times the fraction, rounded: much where the fraction is close to -1
        sine = np.minimum(abs(np.sin(np.pi * (u - np.ceil(u)))), abs(np.sin(np.pi * (v - np.ceil(v)))))
        cotangent = np.divide(np.pi, sine, out=np.zeros_like(sine), where=sine > 0) ** 2 * 2.0**-4
        terms = np.where(u < 0, 8.0 + abs(special.digamma(1 + size)) + cotangent, 1.0)
    else:  # the zeta function at 1 - x and its fraction; below the least normal number it has few digits
        n = ends[0][1]
        factorial = special.gamma(n + 1)
        fraction = np.minimum(abs(u - np.floor(u)), abs(np.ceil(v) - v))
        terms = np.where(u < 0, factorial * (fraction ** (-n - 1) + 4.0), 0.0) + factorial * (2.0**-1020 / eps)
    terms = np.where(np.isfinite(terms), terms, 0.0)
    return np.asarray(eps * terms)
