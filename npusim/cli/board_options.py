"""Options of the commands that run a language model on a simulated board, and what they mean."""

from __future__ import annotations

import argparse

from npusim.board import BOARDS, board_named
from npusim.cli.what_if import add_speed_options, what_if
from npusim.llm.setup import MIB, PAGE_SIZE, Gather, Setup, Submit
from npusim.mem.lmem import align_up

DEFAULT_BUDGET = 256


def add_board_options(parser: argparse._ActionsContainer) -> None:
    """--precision, --policy, --budget, --context, --gather, --submit, --ion and what-if; the board itself is the
    command's own option."""
    parser.add_argument(
        "--precision", choices=("int8", "bf16"), default="int8", help="of the weights on the chip (default: int8)"
    )
    parser.add_argument(
        "--policy", choices=("full", "quest"), default="quest", help="which pages a step attends to (default: quest)"
    )
    parser.add_argument(
        "--budget",
        type=int,
        default=DEFAULT_BUDGET,
        metavar="N",
        help=f"tokens that a step attends to (default: {DEFAULT_BUDGET})",
    )
    parser.add_argument(
        "--context", type=int, metavar="N", help="tokens that the cache holds (default: as many as needed)"
    )
    add_variant_options(parser)
    parser.add_argument(
        "--ion",
        type=int,
        metavar="MIB",
        help="memory for the chip's buffers, if the board's image is built with another",
    )
    add_speed_options(parser)


def add_variant_options(parser: argparse._ActionsContainer) -> None:
    """--gather and --submit."""
    parser.add_argument(
        "--gather",
        choices=[g.value for g in Gather],
        default="patch",
        help="move addresses to the pages, or copy the pages by CPU",
    )
    parser.add_argument(
        "--submit",
        choices=[s.value for s in Submit],
        default="layer",
        help="choose pages in each layer, or for all by the step before",
    )


def setup_of(options: argparse.Namespace, board: str, needed_tokens: int, model_context: int) -> Setup:
    """The setup that the options ask for, with room for `needed_tokens`."""
    context = options.context or min(align_up(needed_tokens, PAGE_SIZE), align_up(model_context, PAGE_SIZE))
    budget = options.budget if options.policy == "quest" else None
    return Setup(
        what_if(board_named(board), options),
        options.precision,
        context,
        budget,
        Gather(options.gather),
        Submit(options.submit),
        ion_bytes=None if options.ion is None else options.ion * MIB,
    )


def board_names() -> list[str]:
    return [board.name for board in BOARDS if board.ion_bytes]
