"""What tests of machine code share."""

from __future__ import annotations

import pytest

from chainrule.compiler.llvm.target import Target, describe
from vector_levels import each_level


@pytest.fixture(params=each_level())
def target(request: pytest.FixtureRequest) -> Target:
    """The processor with all its vector registers, and with as few as there may be."""
    return describe(request.param)
