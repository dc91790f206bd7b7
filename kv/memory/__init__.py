"""The arrays that page ids stand for: the pool of pages, the tiers that pages move between, and the cache of many
sequences."""

from kv.memory.cache import CacheSize, PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16, FLOAT32, PagePool
from kv.memory.tiered_pool import TieredPool
from kv.memory.tiers import Moves, Replacement, Tier, TieredPages

__all__ = [
    "BF16",
    "FLOAT32",
    "CacheSize",
    "Geometry",
    "Moves",
    "PagePool",
    "PagedCache",
    "Replacement",
    "Tier",
    "TieredPages",
    "TieredPool",
]
