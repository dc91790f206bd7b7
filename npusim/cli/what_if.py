"""What-if options: a board with another clock, DRAM or LMEM."""

from __future__ import annotations

import argparse

from npusim.board import Board


def add_speed_options(parser: argparse._ActionsContainer) -> None:
    """--clock and --dram-gbps, which leave every program as it is."""
    parser.add_argument("--clock", type=float, metavar="MHZ", help="what if: another TPU clock")
    parser.add_argument("--dram-gbps", type=float, metavar="GB/S", help="what if: another peak DRAM bandwidth")


def add_layout_options(parser: argparse._ActionsContainer) -> None:
    """--lanes, --lmem and --banks, under which a compiled program may be refused."""
    parser.add_argument(
        "--lanes",
        type=int,
        metavar="N",
        help="what if: another number of lanes (for programs that do not go round them)",
    )
    parser.add_argument("--lmem", type=int, metavar="BYTES", help="what if: another size of each lane's LMEM")
    parser.add_argument("--banks", type=int, metavar="N", help="what if: another number of LMEM banks a lane")


def what_if(board: Board, options: argparse.Namespace) -> Board:
    """`board` as the options change it. Raises UsageError for values that no such chip could have."""
    names = {"clock": "clock_mhz", "dram_gbps": "dram_gbps", "lanes": "lanes", "lmem": "lmem_bytes", "banks": "banks"}
    return board.variant(**{argument: getattr(options, name, None) for name, argument in names.items()})
