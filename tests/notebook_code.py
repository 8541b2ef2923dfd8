"""What notebooks define, for tests and benchmarks: what students read is what is tested."""

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def definitions(notebook: str, *names: str) -> list[Any]:
    """Functions of a notebook, with the others that its cells define at hand; numpy is ``np``.

    Args:
        notebook: file name without .ipynb.
        names: what is wanted.

    Raises:
        KeyError: the notebook does not define one of them.
    """
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    found: dict[str, Any] = {"np": np}
    for cell in cells:
        if cell["cell_type"] == "code":
            for node in ast.parse("".join(cell["source"])).body:
                if isinstance(node, ast.FunctionDef) and not node.decorator_list:
                    exec(compile(ast.Module([node], []), notebook, "exec"), found)
    return [found[name] for name in names]
