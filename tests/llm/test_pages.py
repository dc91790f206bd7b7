"""Pages fill their region and do not overlap."""

from __future__ import annotations

from itertools import product

from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.pages import KEYS, SIDES, VALUES
from tests.llm.lowering import lowered


def places(low: LoweredModel) -> list[tuple[int, int, int, int]]:
    """(layer, head, side, page) of every page of the cache, null pages included, in the order of their addresses."""
    c = low.config
    return list(product(range(c.num_layers), range(c.num_kv_heads), SIDES, range(1 + low.setup.num_pages)))


def test_pages_fill_their_region_one_behind_the_other() -> None:
    low = lowered("bf16", 64, 32)
    region, page_bytes = low.memory["kv pages"], 2 * low.config.head_dim * PAGE_SIZE
    addrs = [low.pages.addr(*place) for place in places(low)]
    assert addrs == list(range(region.addr, region.end, page_bytes))


def test_tokens_of_a_page_are_an_element_apart_in_keys_and_a_row_apart_in_values() -> None:
    low = lowered("bf16", 64, 32)
    for side, step in ((KEYS, 2), (VALUES, 2 * low.config.head_dim)):
        start = low.pages.addr(0, 0, side, 3)
        assert [low.pages.token_addr(side, 3, slot) for slot in range(PAGE_SIZE)] == [
            start + step * slot for slot in range(PAGE_SIZE)
        ]
