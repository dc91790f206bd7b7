"""Page ids, without arrays: which pages are free, which pages each sequence holds, and which hold a known prefix."""

from kv.pages.allocator import NULL_PAGE, PageAllocator
from kv.pages.block_manager import Admission, BlockManager
from kv.pages.block_table import BlockTable
from kv.pages.page import PageKey

__all__ = ["NULL_PAGE", "Admission", "BlockManager", "BlockTable", "PageAllocator", "PageKey"]
