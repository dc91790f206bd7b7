"""The least time that the TIU could take for three networks at 224x224: every layer works on whole planes, no border is
computed twice, and nothing is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from npusim.board import Board
from npusim.timing.constants import Costs

LINES = {(3, 1): 15, (3, 2): 21, (5, 1): 45, (5, 2): 65}
"""LMEM lines under the window of a depthwise convolution, by kernel and stride, as in timing.tiu_work."""
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
_V2 = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 3, 32, 3, 2), (6, 3, 64, 4, 2), (6, 3, 96, 3, 1), (6, 3, 160, 3, 2),
       (6, 3, 320, 1, 1))  # fmt: skip
_LITE0 = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
          (6, 3, 320, 1, 1))  # fmt: skip
"""Blocks: expansion, kernel, channels, how often, stride of the first."""


@dataclass(frozen=True)
class Layer:
    """A convolution of `channels` results in planes of `size` by `size`; `inputs` is 0 for a depthwise one."""

    inputs: int
    channels: int
    kernel: int
    size: int
    stride: int = 1


def mobilenet_v1() -> Iterator[Layer]:
    size, channels = 112, 32
    yield Layer(3, channels, 3, size)
    for results, stride in _V1:
        size //= stride
        yield Layer(0, channels, 3, size, stride)
        yield Layer(channels, results, 1, size)
        channels = results


def inverted_residuals(blocks: tuple[tuple[int, ...], ...], expands_first: bool) -> Iterator[Layer]:
    size, channels = 112, 32
    yield Layer(3, channels, 3, size)
    for expansion, kernel, results, times, first_stride in blocks:
        for i in range(times):
            stride, inner = first_stride if i == 0 else 1, channels * expansion
            if expansion > 1 or expands_first:
                yield Layer(channels, inner, 1, size)
            size //= stride
            yield Layer(0, inner, kernel, size, stride)
            yield Layer(inner, results, 1, size)
            channels = results
    yield Layer(channels, 1280, 1, size)


NETWORKS = {
    "mobilenet_v1": tuple(mobilenet_v1()),
    "mobilenet_v2": tuple(inverted_residuals(_V2, expands_first=True)),
    "efficientnet_lite0": tuple(inverted_residuals(_LITE0, expands_first=False)),
}


def least_ms(network: str, board: Board) -> float:
    """The least time of `network`, without its last matrix product."""
    chip, costs = board.chip, Costs()
    cycles = 0.0
    for layer in NETWORKS[network]:
        units = ceil(layer.channels / chip.num_lanes) * ceil(layer.size**2 / chip.eu_num)
        steps = layer.kernel**2 * ceil(layer.inputs / chip.conv_channels) + costs.conv_per_unit
        if not layer.inputs:
            steps = LINES[layer.kernel, layer.stride] + costs.depthwise_per_unit
        cycles += units * max(steps, costs.per_channel_floor)
    return cycles / board.tpu_mhz / 1000
