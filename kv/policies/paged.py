"""Pages of a policy's own size, whatever the cache's is."""

from __future__ import annotations

from dataclasses import dataclass

from kv.errors import KVError
from kv.policies.base import LayerContext, Policy, State, Unit
from kv.policies.wrapper import Wrapper


@dataclass(frozen=True)
class Paged(Wrapper):
    """Chooses pages of `page_size` tokens in a cache of other pages, so that policies of several page sizes can go on
    from one prompt. KVError for a policy that chooses single tokens.

    page_size   tokens: a multiple of the cache's page, or a divisor
    """

    base: Policy
    page_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit is not Unit.PAGE:
            raise KVError(f"{self.name} chooses single tokens, so it has no page size: leave page_size out")

    @property
    def own_page_size(self) -> int:
        return self.page_size

    def start(self, context: LayerContext) -> State:
        return self.base.start(context.paged(self.page_size))
