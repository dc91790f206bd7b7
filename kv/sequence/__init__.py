"""One sequence of a cache with a policy: what is appended, chosen, gathered and attended to, and how many bytes that
moves."""

from kv.sequence.decode_step import Activity
from kv.sequence.paged_kv import PagedKV
from kv.sequence.residency import Residency
from kv.sequence.selection import Selection
from kv.sequence.traffic import StepTraffic

__all__ = ["Activity", "PagedKV", "Residency", "Selection", "StepTraffic"]
