"""Sums of products as the TIU forms them.

One product at a time is added, in a given order, and float32 is rounded toward zero after every addition.

A fused and a separate multiply-add give the same bits, because a product of two bf16 numbers is exact in float32. So a
BLAS kernel that walks the inner dimension in order computes exactly this while the processor rounds toward zero.
Whether the installed BLAS does is not documented. Each matrix shape is therefore tried once against the plain loop
(npusim.numerics.blas_trials keeps the outcome), and shapes that differ take the loop. Shapes are padded to a few
canonical ones. A long inner dimension is cut into blocks; each block continues the sum so far through an identity
matrix in front of the left operand.

Where products or sums could leave the normal range (very small, very large or poisoned numbers), a loop checks every
step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from npusim.numerics import bf16
from npusim.numerics.backend import kernel
from npusim.numerics.blas_trials import trials
from npusim.numerics.toward_zero import add, is_native, rounding_toward_zero

F32 = NDArray[np.float32]

_BLOCK_K = 384
"""Inner extent of one BLAS call. Deeper ones make OpenBLAS start a second partial sum."""
_BLOCK_M, _BLOCK_N = 64, 256
LARGEST = np.finfo(np.float32).max
"""What poison becomes in a float32 partial sum. When it is read back, it is an ordinary number."""
FEW_ROWS = 8
MATRIX_COLUMNS = 16
"""OpenBLAS sums in order where the columns are a multiple of this. One column is a vector to it, which it sums in
lanes."""
ENOUGH_SUMS = 2048
STACKED = 1 << 16
"""Up to so many terms, a sum is fastest in one call on an array of all of them."""
_INT_EXACT = 1 << 24
"""Integers up to this are exact in float32, and so are their sums, in any order, as long as they stay below it."""


@dataclass(frozen=True)
class Span:
    """The range of exponents in an operand, and how many fraction bits its numbers have.

    `lowest` and `highest` are the biased exponents of the smallest and the largest nonzero number."""

    lowest: int
    highest: int
    fraction_bits: int
    has_denormals: bool = False
    """bf16 only: where there are none, the patterns' bits are the numbers that the TIU reads."""

    @classmethod
    def of_bf16(cls, patterns: NDArray[np.uint16]) -> Span:
        """The span of bf16 `patterns` (uint16). Zeros and denormals read as zero and do not count."""
        magnitudes = patterns & 0x7FFF
        highest = int(magnitudes.max(initial=0)) >> 7
        magnitudes -= np.uint16(1)  # zero wraps around to the largest
        smallest = int(magnitudes.min(initial=0xFFFF)) + 1
        if smallest > 0xFFFF:
            return cls(255, highest, 7)
        if smallest >= 0x80:
            return cls(smallest >> 7, highest, 7)
        normal = magnitudes[magnitudes >= 0x7F]
        lowest = int(normal.min(initial=0xFFFF)) + 1
        return cls(255 if lowest > 0xFFFF else lowest >> 7, highest, 7, has_denormals=True)

    @classmethod
    def of_float32(cls, values: F32) -> Span:
        """The span of float32 `values`. Zeros do not count."""
        bits = np.ascontiguousarray(values).view(np.uint32)
        exponents = (bits >> 23) & 0xFF
        nonzero = exponents[(bits & 0x7FFFFFFF) != 0]
        return cls(int(nonzero.min(initial=255)), int(exponents.max(initial=0)), 23)

    def with_those_of(self, other: Span) -> Span:
        """The span that contains both."""
        return Span(
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            max(self.fraction_bits, other.fraction_bits),
            self.has_denormals or other.has_denormals,
        )


def stays_normal(left: Span, right: Span, count: int, start: Span | None = None) -> bool:
    """Whether every sum of `count` products, on top of `start`, is certain to be a normal number.

    That is: no underflow, no overflow, no poison. All terms are multiples of one quantum, so no sum is smaller than
    it; and no sum exceeds the sum of the magnitudes."""
    quantum = left.lowest + right.lowest - 254 - left.fraction_bits - right.fraction_bits
    top = left.highest + right.highest - 254 + 2 + count.bit_length()
    if max(left.highest, right.highest) == 255:
        return False
    if start is None:
        return quantum >= -126 and top < 127
    return min(quantum, start.lowest - 127 - start.fraction_bits) >= -126 and max(top, start.highest - 127 + 1) < 126


@kernel
def dot_patterns(left: NDArray[np.uint16], right: NDArray[np.uint16], start: F32 | None = None) -> F32:
    """dot_in_order of bf16 patterns: `left` is (M, K), and `right` holds (K, N) in any shape."""
    count = left.shape[1]
    spans = Span.of_bf16(left), Span.of_bf16(right)
    normal = stays_normal(*spans, count, None if start is None else Span.of_float32(start))
    values = [
        bf16.widened(patterns) if normal and not span.has_denormals else bf16.to_float(patterns)
        for patterns, span in zip((left, right), spans, strict=True)
    ]
    return dot_in_order(values[0], values[1].reshape(count, -1), normal, start)


def dot_in_order(left: F32, right: F32, normal: bool, start: F32 | None = None) -> F32:
    """left @ right, summed in ascending k and rounded toward zero at every step; float32 (M, N).

    `left` is (M, K) and `right` (K, N), both float32; the sum begins at `start`, (M, N), or at 0. `normal` is
    stays_normal of the operands. NaN stands for poison, and overflow becomes NaN; in `start`, poison is LARGEST."""
    with rounding_toward_zero():
        if not normal:
            return _dot_step_by_step(left, right, start)
        if is_native():
            if len(left) <= FEW_ROWS:
                few = _dot_few(left, right, start)
                if few is not None:
                    return few
            if len(left) == 1 and right.shape[1] > 1 and _reduces_in_order():
                return _dot_row(left, right, start)
            blocked = _dot_blocked(left, right, start)
            if blocked is not None:
                return blocked
        return _dot_loop(left, right, start)


def sum_in_order(terms: Iterable[F32], start: F32, normal: bool) -> F32:
    """`start` plus all `terms`, one after another, rounded toward zero at every step.

    Terms are arrays of the shape of `start`. `normal` and poison are those of dot_in_order."""
    total = start.copy()
    with rounding_toward_zero():
        if not normal:
            for term in terms:
                total = checked_add(total, term)
            return total
        one = np.add if is_native() else add
        for term in terms:
            one(total, term, out=total)
    return total


def sum_stacked(terms: F32, normal: bool, start: F32 | None = None) -> F32:
    """The sum of sum_in_order over axis 0 of `terms`, in one call: faster for many terms of few elements.

    The sum begins at `start`, or at 0."""
    if is_native():
        with rounding_toward_zero(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
            sums = np.add.accumulate(terms if start is None else np.concatenate([start[None], terms]), axis=0)
            if normal or _nothing_happened(sums):
                return sums[-1] + np.float32(0)  # terms of -0 alone sum to +0, as the sum begins at 0
    return sum_in_order(terms, np.zeros(terms.shape[1:], np.float32) if start is None else start, normal)


def _nothing_happened(sums: F32) -> bool:
    """Whether every partial sum is normal: no denormal (it would become 0), none as large as LARGEST (perhaps
    poison)."""
    magnitude = np.abs(sums)
    return not bool(np.any((magnitude >= LARGEST) | (magnitude > 0) & (magnitude < bf16.SMALLEST_NORMAL)))


def checked_add(total: F32, term: F32) -> F32:
    """One addition toward zero in which underflow gives +0 and overflow poison.

    Call it inside rounding_toward_zero(). A sum overflows as soon as it exceeds LARGEST, even by less than a float64
    can tell. LARGEST itself stays only where the term leads away from it."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        result = bf16.flush(add(total, term))
        wide = total.astype(np.float64) + term
        beyond = (np.abs(total) == LARGEST) & ((term >= 0) == (total > 0))
        np.copyto(result, np.nan, where=beyond | ~(np.abs(wide) <= LARGEST))
    return result


def checked_product(a: F32, b: F32) -> F32:
    """a * b, in which underflow gives +0 and overflow poison."""
    with np.errstate(over="ignore", invalid="ignore"):
        wide = a.astype(np.float64) * b
        result = bf16.flush(wide.astype(np.float32))
        np.copyto(result, np.nan, where=~(np.abs(wide) <= LARGEST))
    return result


def dot_exact(left: F32, right: F32, largest_product: int) -> F32 | NDArray[np.int32]:
    """left @ right of integers held in float32, exact. The result is float32 where that holds it, else int32.

    `largest_product` bounds the magnitude of any one product."""
    count = left.shape[1]
    depth = max(1, _INT_EXACT // largest_product)
    if count <= depth:
        return left @ right
    total = np.zeros((left.shape[0], right.shape[1]), np.int32)
    for k in range(0, count, depth):
        total += (left[:, k : k + depth] @ right[k : k + depth]).astype(np.int32)
    return total


def _dot_step_by_step(left: F32, right: F32, start: F32 | None) -> F32:
    total = np.empty((left.shape[0], right.shape[1]), np.float32)
    width = max(1, STACKED // left.size)
    for n in range(0, right.shape[1], width):
        terms = checked_product(left.T[:, :, None], right[:, None, n : n + width])
        total[:, n : n + width] = sum_stacked(terms, False, None if start is None else start[:, n : n + width])
    return total


def few_rows(left: F32, has_start: bool) -> F32:
    """Up to FEW_ROWS rows, padded with rows of zeros so that BLAS multiplies matrices, with an identity matrix in front
    where a sum goes on."""
    rows, count = left.shape
    height = 2 if rows == 1 else -(-rows // 4) * 4
    lead = height if has_start else 0
    block = np.zeros((height, lead + count), np.float32)
    block[:rows, lead:] = left
    np.fill_diagonal(block[:, :lead], 1)
    return block


def _dot_few(left: F32, right: F32, start: F32 | None) -> F32 | None:
    """A few rows times `right` in one call; None where this BLAS sums that shape in another order."""
    if right.shape[1] % MATRIX_COLUMNS:
        return None
    factors = few_rows(left, start is not None)
    if not sums_in_order(*factors.shape, right.shape[1]):
        return None
    if start is not None:
        begun = np.zeros((len(factors), right.shape[1]), np.float32)
        begun[: len(start)] = start
        right = np.concatenate([begun, right])
    return (factors @ np.ascontiguousarray(right))[: len(left)]


def _dot_row(left: F32, right: F32, start: F32 | None) -> F32:
    """One row of products, each added to all before it; at least two columns.

    The terms lie in memory row by row, whatever `right` does: NumPy sums in pairs along an axis that is contiguous."""
    if start is None:
        total: F32 = np.add.reduce(np.multiply(left.T, right, order="C"), axis=0, keepdims=True)
        total += np.float32(0)  # terms of -0 alone sum to +0, as the sum begins at 0
        return total
    terms = np.empty((len(right) + 1, right.shape[1]), np.float32)
    terms[0] = start
    np.multiply(left.T, right, out=terms[1:])
    return np.add.reduce(terms, axis=0, keepdims=True)


@cache
def _reduces_in_order() -> bool:
    """Whether NumPy adds up an array's rows one after another; call it inside rounding_toward_zero().

    It is tried on one row of every width up to 40, on numbers of mixed size and sign."""
    rng = np.random.default_rng(0)
    left, right = (_mixed_numbers(rng, *shape) for shape in ((1, 99), (99, 40)))
    return all(
        np.array_equal(_dot_row(left, right[:, :n], None), _dot_loop(left, right[:, :n], None)) for n in range(2, 41)
    )


def _dot_loop(left: F32, right: F32, start: F32 | None) -> F32:
    total = np.zeros((left.shape[0], right.shape[1]), np.float32) if start is None else start.copy()
    product = np.empty_like(total)
    for k in range(left.shape[1]):
        np.multiply(left[:, k, None], right[k], out=product)
        add(total, product, out=total)
    return total


def _dot_blocked(left: F32, right: F32, start: F32 | None) -> F32 | None:
    """dot_in_order through verified BLAS calls; None where this BLAS sums one of the shapes in another order."""
    rows, columns = left.shape[0], right.shape[1]
    if rows > columns:  # the identity in front is as wide as the rows of a block: let the shorter side be the rows
        turned = _dot_blocked(right.T, left.T, None if start is None else start.T)
        return None if turned is None else turned.T
    result = np.empty((rows, columns), np.float32)
    for m in range(0, rows, _BLOCK_M):
        m_end = min(m + _BLOCK_M, rows)
        lefts = _left_blocks(left[m:m_end], start is not None)
        for n in range(0, columns, _BLOCK_N):
            n_end = min(n + _BLOCK_N, columns)
            total = None if start is None else start[m:m_end, n:n_end]
            total = _block_chain(lefts, right[:, n:n_end], total)
            if total is None:
                return None
            result[m:m_end, n:n_end] = total[: m_end - m, : n_end - n]
    return result


def _left_blocks(left: F32, has_start: bool) -> list[F32]:
    """`left` cut along k and padded with zeros to canonical shapes.

    Every block that continues a sum begins with an identity matrix."""
    rows, count = left.shape
    height = 8 if rows <= 8 else -(-rows // 16) * 16
    blocks: list[F32] = []
    k = 0
    while k < count:
        lead = height if blocks or has_start else 0
        take = min(_BLOCK_K - lead, count - k)
        block = np.zeros((height, -(-(lead + take) // 32) * 32), np.float32)
        if lead:
            np.fill_diagonal(block, 1)
        block[:rows, lead : lead + take] = left[:, k : k + take]
        blocks.append(block)
        k += take
    return blocks


def _block_chain(lefts: list[F32], right: F32, total: F32 | None) -> F32 | None:
    count, columns = right.shape
    height, width = lefts[0].shape[0], -(-columns // 32) * 32
    room = np.zeros(
        (max(block.shape[1] for block in lefts), width), np.float32
    )  # rows that no block fills are multiplied by zeros of its left operand
    k = 0
    for block in lefts:
        lead = 0 if total is None else height
        depth = block.shape[1]
        if not sums_in_order(height, depth, width):
            return None
        operand = room[:depth]
        if total is not None:
            operand[: total.shape[0], : total.shape[1]] = total
        take = min(depth - lead, count - k)
        operand[lead : lead + take, :columns] = right[k : k + take]
        total = block @ operand
        k += take
    return total


@cache
def sums_in_order(rows: int, count: int, columns: int) -> bool:
    """Whether this BLAS gives the plain loop's bits for this shape; call it inside rounding_toward_zero()."""
    return trials().outcome(f"{rows} {count} {columns}", lambda: _tried(rows, count, columns))


def _tried(rows: int, count: int, columns: int) -> bool:
    """On numbers of mixed size and sign, until enough sums have been compared: short ones agree by chance in any
    order."""
    rng = np.random.default_rng(rows * count + columns)
    for _ in range(-(-ENOUGH_SUMS // (rows * columns))):
        left, right = _mixed_numbers(rng, rows, count), _mixed_numbers(rng, count, columns)
        if not np.array_equal(left @ right, _dot_loop(left, right, None)):
            return False
    return True


def _mixed_numbers(rng: np.random.Generator, *shape: int) -> F32:
    """bf16 numbers of mixed size and sign."""
    values = rng.standard_normal(shape).astype(np.float32) * np.exp2(rng.integers(-6, 7, shape)).astype(np.float32)
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
