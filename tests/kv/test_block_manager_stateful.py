"""Any history of allocate, append, publish, fork, truncate and free, against a model that keeps plain lists of token
ids."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kv.pages.allocator import NULL_PAGE
from kv.pages.block_manager import Admission, BlockManager, Copies

TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=9)


class Histories(RuleBasedStateMachine):
    """`slots` plays the pool: the token that each (page, offset) holds. A page is checked against the sequence's own
    list at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = BlockManager(12, page_size=3)
        self.contents: dict[int, list[int]] = {}
        self.slots: dict[tuple[int, int], int] = {}
        self.names = 0

    def new_name(self) -> int:
        self.names += 1
        return self.names

    def some(self, data: st.DataObject, of: dict[int, list[int]]) -> int:
        return data.draw(st.sampled_from(sorted(of)))

    def copy(self, copies: Copies) -> None:
        for page, to in copies:
            self.slots |= {(to, i): self.slots[page, i] for i in range(3) if (page, i) in self.slots}

    def compute(self, seq: int, start: int) -> None:
        table = self.manager.tables[seq]
        for position, slot in zip(range(start, table.length), table.slots(start, table.length).tolist(), strict=True):
            self.slots[divmod(slot, 3)] = self.contents[seq][position]

    @rule(tokens=TOKENS, publish=st.booleans())
    def allocate(self, tokens: list[int], publish: bool) -> None:
        if self.manager.admission(tokens) is not Admission.OK:
            return
        seq = self.new_name()
        table = self.manager.allocate(seq, tokens)
        assert table.num_cached % 3 == 0 and table.num_cached < len(tokens)
        self.contents[seq] = list(tokens)
        self.compute(seq, table.num_cached)
        if publish:
            self.manager.publish(seq, tokens)

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), tokens=TOKENS)
    def append(self, data: st.DataObject, tokens: list[int]) -> None:
        seq = self.some(data, self.contents)
        if not self.manager.can_append(seq, len(tokens)):
            return
        self.copy(self.manager.append(seq, len(tokens)))
        self.contents[seq] += tokens
        self.compute(seq, len(self.contents[seq]) - len(tokens))

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        seq = self.some(data, self.contents)
        self.manager.publish(seq, self.contents[seq])

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        seq, child = self.some(data, self.contents), self.new_name()
        self.manager.fork(seq, child)
        self.contents[child] = list(self.contents[seq])

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        seq = self.some(data, self.contents)
        length = data.draw(st.integers(0, len(self.contents[seq])))
        self.manager.truncate(seq, length)
        del self.contents[seq][length:]

    @precondition(lambda self: self.contents)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        seq = self.some(data, self.contents)
        self.manager.free(seq)
        del self.contents[seq]

    @invariant()
    def every_page_is_free_or_counted_once_for_each_holder(self) -> None:
        allocator = self.manager.allocator
        holders = Counter(page for table in self.manager.tables.values() for page in table.pages)
        assert [allocator.ref_count(page) for page in range(1, 13)] == [holders[page] for page in range(1, 13)]
        assert sorted(allocator.free_order()) == [page for page in range(1, 13) if not holders[page]]
        assert allocator.num_free + allocator.num_used == 12 and NULL_PAGE not in holders

    @invariant()
    def tables_have_the_least_pages_and_no_page_twice(self) -> None:
        for seq, table in self.manager.tables.items():
            assert table.length == len(self.contents[seq])
            assert len(table.pages) == len(set(table.pages)) == -(-table.length // 3)
            assert 0 <= table.wasted_slots < 3

    @invariant()
    def every_sequence_reads_what_was_appended_to_it(self) -> None:
        for seq, tokens in self.contents.items():
            slots = self.manager.tables[seq].slots(0, len(tokens)).tolist()
            assert [self.slots[divmod(slot, 3)] for slot in slots] == tokens and len(set(slots)) == len(slots)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
