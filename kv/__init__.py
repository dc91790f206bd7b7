"""A paged KV cache for NumPy, and the policies that choose which of its pages or tokens a step attends to.

>>> import numpy as np
>>> from kv import Geometry, PagedCache, PagedKV, policy_named
>>> cache = PagedCache(Geometry(num_layers=1, num_q_heads=4, num_kv_heads=2, head_dim=8, page_size=16), num_pages=64)
>>> kv = PagedKV(cache, "chat", policy_named("quest"), budget_tokens=64)
>>> rng = np.random.default_rng(0)
>>> kv.append(0, *rng.standard_normal((2, 500, 2, 8), np.float32))  # keys and values of 500 tokens in layer 0
>>> kv.select(0, rng.standard_normal((1, 4, 8), np.float32)).k.shape  # what one query of 4 heads attends to
(2, 64, 8)

The packages, each of which imports only those before it: pages (ids and reference counts), memory (arrays and tiers),
policies, sequence (PagedKV, which a model appends to and reads from). Besides: tasks (long prompts with answers to
score) and metrics."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kv.errors import KVError as KVError
    from kv.memory.cache import PagedCache as PagedCache
    from kv.memory.geometry import Geometry as Geometry
    from kv.memory.pool import BF16 as BF16
    from kv.memory.pool import FLOAT32 as FLOAT32
    from kv.memory.tiers import Replacement as Replacement
    from kv.memory.tiers import Tier as Tier
    from kv.pages.block_manager import Admission as Admission
    from kv.pages.block_manager import BlockManager as BlockManager
    from kv.policies import POLICIES as POLICIES
    from kv.policies import policy_named as policy_named
    from kv.policies.base import LayerContext as LayerContext
    from kv.policies.base import Policy as Policy
    from kv.policies.base import ReadKeys as ReadKeys
    from kv.policies.base import State as State
    from kv.policies.base import Unit as Unit
    from kv.sequence.paged_kv import PagedKV as PagedKV
    from kv.sequence.residency import Residency as Residency
    from kv.sequence.selection import Selection as Selection
    from kv.sequence.traffic import StepTraffic as StepTraffic

_MODULE_OF = {
    "KVError": "errors",
    "PagedCache": "memory.cache",
    "Geometry": "memory.geometry",
    "BF16": "memory.pool",
    "FLOAT32": "memory.pool",
    "Replacement": "memory.tiers",
    "Tier": "memory.tiers",
    "Admission": "pages.block_manager",
    "BlockManager": "pages.block_manager",
    "POLICIES": "policies",
    "policy_named": "policies",
    "LayerContext": "policies.base",
    "Policy": "policies.base",
    "ReadKeys": "policies.base",
    "State": "policies.base",
    "Unit": "policies.base",
    "PagedKV": "sequence.paged_kv",
    "Residency": "sequence.residency",
    "Selection": "sequence.selection",
    "StepTraffic": "sequence.traffic",
}
"""Where each name lives. Its module is imported when the name is first asked for (PEP 562)."""

__all__ = list(_MODULE_OF)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
