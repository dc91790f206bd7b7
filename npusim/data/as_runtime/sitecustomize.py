"""Python runs this file when it starts, because its folder is on PYTHONPATH. It makes `pyruntime_cvi` come from this
folder, even if another folder with one comes earlier on the path."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Front:
    """Finds pyruntime_cvi before any folder of sys.path is searched."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(HERE)]) if name == "pyruntime_cvi" else None


sys.meta_path.insert(0, Front)

# The sitecustomize that Python would have run without this one.
spec = PathFinder.find_spec("sitecustomize", [folder for folder in sys.path if Path(folder).resolve() != HERE])
if spec and spec.loader:
    spec.loader.exec_module(module_from_spec(spec))
