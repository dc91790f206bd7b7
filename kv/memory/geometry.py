"""The sizes that determine the shape of a cache."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kv.errors import KVError


@dataclass(frozen=True)
class Geometry:
    """Layers, heads and page size of a cache; `page_size` is in tokens. Raises KVError for impossible sizes."""

    num_layers: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    page_size: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise KVError(f"{field.name} is {value}: it must be at least 1")
        if self.num_q_heads % self.num_kv_heads:
            raise KVError(
                f"{self.num_q_heads} query heads do not divide into groups over {self.num_kv_heads} KV heads: "
                "choose a divisor"
            )

    @property
    def group(self) -> int:
        """Number of query heads that read one KV head."""
        return self.num_q_heads // self.num_kv_heads

    def pages(self, num_tokens: int) -> int:
        """Number of pages for num_tokens tokens: ceil(num_tokens / page_size)."""
        return -(-num_tokens // self.page_size)

    def head_page_bytes(self, element_bytes: int) -> int:
        """Bytes of the keys and values of one page in one layer and KV head."""
        return 2 * self.page_size * self.head_dim * element_bytes

    def page_bytes(self, element_bytes: int) -> int:
        """Bytes of the keys and values of one page in all layers and KV heads."""
        return 2 * self.num_layers * self.num_kv_heads * self.page_size * self.head_dim * element_bytes
