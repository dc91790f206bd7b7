"""Runs a bundle of `npusim llm export` on a board, and writes the logits after every token: python3 run.py

    python3 run.py [--tokens 12,7,5] [--steps 16] [--out logits.npz] [--lib DIR]

Without --tokens the bundle's own prompt is used. `npusim diff logits.npz golden.npz` then says whether the board is
right. On a PC, --lib names the directory with the vendor's libcviruntime.so, libcvikernel.so and libcvicmodel.so."""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from runtime import Board, load_library, write_npz  # type: ignore[import-not-found]

HERE = os.path.dirname(os.path.abspath(__file__))


def read_file(name: str) -> bytes:
    with open(os.path.join(HERE, name), "rb") as source:
        return source.read()


class Model:
    """The driver: page tables, choice of pages, patches. `manifest` says where everything lies."""

    def __init__(self, manifest: dict[str, Any], board: Any) -> None:
        self.m, self.board, self.length = manifest, board, 0
        memory = read_file("memory.bin")
        for addr, start, count in manifest["constants"]:
            board.write(addr, memory[start : start + count])
        self.embedding = read_file("embedding.bin")
        self.programs = {
            name: [(board.load(read_file(part["file"])), part["labels"]) for part in parts]
            for name, parts in manifest["programs"].items()
        }
        self.now: dict[tuple[str, str], int] = {}
        self.scores: list[list[list[float]]] | None = None

    def decode(self, token: int) -> bytes:
        """One token in, bytes of bf16 logits out."""
        m, addresses, page_size = self.m, self.m["addresses"], self.m["page_size"]
        row = 2 * m["hidden"]
        self.board.write(addresses["x"], self.embedding[token * row : (token + 1) * row])
        block, slot = divmod(self.length, page_size)
        self.length += 1
        moves = {
            "k_new": m["kv"] + (block + 1) * m["page_bytes"] + 2 * slot,
            "v_new": m["kv"]
            + (m["num_pages"] + 1) * m["page_bytes"]
            + (block + 1) * m["page_bytes"]
            + 2 * slot * m["head_dim"],
            "rope": addresses["rope"] + (self.length - 1) * addresses["rope_bytes"],
            "box": addresses["boxes"] + 2 * block,
        }
        if len(m["decode"]) > 1:
            for index, name in enumerate(m["decode"]):
                if index:
                    moves.update(self.choose(index - 1, self.read_scores(index - 1) if m["prunes"] else None))
                self.run(name, moves)
        else:
            for layer in range(m["num_layers"]):
                moves.update(self.choose(layer, self.old_scores(layer)))
            self.run(m["decode"][0], moves)
            if m["prunes"]:
                self.scores = [self.read_scores(layer) for layer in range(m["num_layers"])]
        return self.board.read(addresses["logits"], 2 * m["vocab"])

    def choose(self, layer: int, scores: list[list[float]] | None) -> dict[str, int]:
        """Moves of one layer's pages: the last block and those with the highest scores , ascending, then null pages."""
        m, slots, blocks = self.m, self.m["num_slots"], -(-self.length // self.m["page_size"])
        moves: dict[str, int] = {}
        kept = list(range(blocks))
        for head in range(m["num_kv_heads"]):
            if scores is not None and blocks > slots:
                row = scores[head]
                best = sorted(range(blocks - 1), key=lambda block: (-row[block], block))[: slots - 1]
                kept = [*sorted(best), blocks - 1]
            pages = [block + 1 for block in kept] + [0] * (slots - len(kept))
            for slot, page in enumerate(pages):
                for side in (0, 1):
                    source = (
                        m["kv"]
                        + (((layer * m["num_kv_heads"] + head) * 2 + side) * (m["num_pages"] + 1) + page)
                        * m["page_bytes"]
                    )
                    moves[f"{'kv'[side]}/{layer}/{head}/{slot}"] = source
        valid = self.length - (blocks - len(kept)) * m["page_size"]
        moves["mask"] = m["addresses"]["mask"] + 2 * (m["context"] - (valid - 1))
        return moves

    def read_scores(self, layer: int) -> list[list[float]]:
        """Largest score among the query heads of each KV head: [kv_heads][blocks]."""
        m, addresses, pages = self.m, self.m["addresses"], self.m["context"] // self.m["page_size"]
        count = 2 * m["num_heads"] * pages
        halves = struct.unpack(
            f"<{count}H", self.board.read(addresses["scores"] + layer * addresses["score_bytes"], 2 * count)
        )
        blocks, group = -(-self.length // m["page_size"]), m["num_heads"] // m["num_kv_heads"]
        found: list[list[float]] = []
        for head in range(m["num_kv_heads"]):
            upper, lower = 2 * head * group * pages, (2 * head + 1) * group * pages
            rows = [range(at, at + blocks) for at in range(0, group * pages, pages)]
            scores = [[number(halves[upper + i], halves[lower + i]) for i in row] for row in rows]
            found.append([max(column) for column in zip(*scores)])  # noqa: B905
        return found

    def old_scores(self, layer: int) -> list[list[float]]:
        """Of the step before; blocks that had none, or were incomplete then, are kept."""
        blocks = -(-self.length // self.m["page_size"])
        if self.scores is None:
            return [[float(block) for block in range(blocks)]] * self.m["num_kv_heads"]
        return [row[:-1] + [float("inf")] * (blocks - len(row) + 1) for row in self.scores[layer]]

    def run(self, name: str, moves: dict[str, int]) -> None:
        for program, labels in self.programs[name]:
            for label, points in labels.items():
                if self.now.get((name, label)) != moves[label]:
                    for number, offset, addend in points:
                        self.board.patch(program, number, offset, moves[label] + addend)
            self.board.run(program)
        self.now.update({(name, label): moves[label] for _, labels in self.programs[name] for label in labels})


def number(upper: int, lower: int) -> float:
    """A float32 number of its halves."""
    value: float = struct.unpack("<f", struct.pack("<HH", lower, upper))[0]
    return value


def largest(logits: bytes) -> int:
    """Token with the largest logit. bf16 numbers order as signed integers once the magnitude of negative ones is turned
    round."""
    values = struct.unpack(f"<{len(logits) // 2}h", logits)
    return max(range(len(values)), key=lambda i: (values[i] if values[i] >= 0 else -32768 - values[i], -i))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", help="prompt as token ids, with commas between them")
    parser.add_argument("--steps", type=int, help="tokens to generate behind the prompt, the likeliest each time")
    parser.add_argument("--out", default="logits.npz", help="where the logits go (default: logits.npz)")
    parser.add_argument("--lib", default="", help="directory of the runtime's libraries")
    options = parser.parse_args()
    manifest = json.loads(read_file("manifest.json").decode())
    os.environ.setdefault("SET_CHIP_NAME", manifest["chip"])
    model = Model(manifest, Board(load_library(options.lib), manifest["num_bytes"]))
    tokens = [int(t) for t in options.tokens.split(",")] if options.tokens else manifest["prompt"]
    steps, rows, started = manifest["steps"] if options.steps is None else options.steps, [], time.time()
    for index in range(len(tokens) + steps):
        rows.append(model.decode(tokens[index]))
        if index + 1 >= len(tokens):
            tokens.append(largest(rows[-1]))
    write_npz(options.out, rows, manifest["vocab"])
    took = (time.time() - started) / len(rows)
    print(f"{len(rows)} steps, {1000 * took:.1f} ms each; logits in {options.out}; tokens {tokens}")


if __name__ == "__main__":
    main()
