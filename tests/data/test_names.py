"""PyTorch's module paths resolve, and asking for them loads nothing before its time."""

import json
import subprocess
import sys


def test_paths_and_what_they_load():
    program = """
import json, sys
import chainrule, chainrule.utils
before = [name for name in ("chainrule.data", "sklearn", "pandas", "rich") if name in sys.modules]
import chainrule.data, chainrule.vision
from chainrule.utils.data import DataLoader
from chainrule.vision import datasets, transforms
same = chainrule.utils.data.DataLoader is DataLoader is chainrule.data.DataLoader
same = same and datasets.MNIST is chainrule.data.MNIST and callable(transforms.ToTensor)
after = [name for name in ("sklearn", "pandas", "rich") if name in sys.modules]
print(json.dumps([before, same, after]))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(result.stdout) == [[], True, []]
