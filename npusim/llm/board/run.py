"""Runs a bundle of `npusim llm export` on a board; writes its text, and the logits after every token: python3 run.py

    python3 run.py [--prompt TEXT | --tokens 12,7,5] [--steps 16] [--out logits.npz] [--lib DIR]

Without either the bundle's own prompt is used. `npusim diff logits.npz golden.npz` then says whether the board is
right. On a PC, --lib or CVI_LIB names the directory with the vendor's libcviruntime.so, libcvikernel.so and
libcvicmodel.so."""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from runtime import BoardError, Device, load_library, write_npz  # type: ignore[import-not-found]

INFINITY = float("inf")
HERE = os.path.dirname(os.path.abspath(__file__))


def read_file(name: str) -> bytes:
    with open(os.path.join(HERE, name), "rb") as source:
        return source.read()


class Driver:
    """Page tables, choice of pages and patches of one sequence. `manifest` says where everything lies."""

    def __init__(self, manifest: dict[str, Any], device: Any) -> None:
        self.m, self.device, self.length = manifest, device, 0
        memory = read_file("memory.bin")
        for addr, start, count in manifest["constants"]:
            device.write(addr, memory[start : start + count])
        self.embedding = read_file("embedding.bin")
        self.programs = {
            name: [(device.load(read_file(part["file"])), part["labels"]) for part in parts]
            for name, parts in manifest["programs"].items()
        }
        self.now: dict[tuple[str, str], int] = {}
        self.scores: list[list[list[float]]] = [[[]] * manifest["num_kv_heads"]] * manifest["num_layers"]

    @property
    def num_blocks(self) -> int:
        return -(-self.length // self.m["page_size"])

    def decode(self, token: int) -> bytes:
        """One token in, bytes of bf16 logits out."""
        m, row = self.m, 2 * self.m["hidden"]
        first, *others = m["decode"]
        self.device.write(m["addresses"]["x"], self.embedding[token * row : (token + 1) * row])
        moves = self.new_token_moves()
        self.length += 1
        self.write_position()
        if not others:  # one program: pages by the scores of the step before, new or then incomplete ones in any case
            for layer, scores in enumerate(self.scores):
                moves.update(self.page_moves(layer, [old[:-1] + [INFINITY] * self.num_blocks for old in scores]))
        self.run(first, moves)
        if not others and m["prunes"]:
            self.scores = [self.read_scores(layer) for layer in range(m["num_layers"])]
        for layer, name in enumerate(others):
            moves.update(self.page_moves(layer, self.read_scores(layer)))
            self.run(name, moves)
        return self.device.read(m["addresses"]["logits"], 2 * m["vocab"])

    def new_token_moves(self) -> dict[str, int]:
        """Where the key and value of the token at position `length` go, and what else follows from its position."""
        block, slot = divmod(self.length, self.m["page_size"])
        addresses, pages = self.m["addresses"], self.m["pages"]
        key, value = (page_addr(pages, 0, 0, side, block + 1) + slot * pages["token_strides"][side] for side in (0, 1))
        boxes = addresses["boxes"]
        return {"k_new/0": key, "v_new/0": value, "boxes/0": boxes, "box/0": boxes + 2 * block}

    def write_position(self) -> None:
        """The rotation of the last token's position, and the mask: what is behind it among the slots is hidden."""
        m, addresses = self.m, self.m["addresses"]
        num_bytes = addresses["rope_bytes"]
        turn = self.device.read(addresses["rope"] + (self.length - 1) * num_bytes, num_bytes)
        self.device.write(addresses["turns"], turn)
        seen = self.length - max(self.num_blocks - m["num_slots"], 0) * m["page_size"]
        hidden = struct.pack("<H", m["masked"]) * (m["num_slots"] * m["page_size"] - seen)
        self.device.write(addresses["mask"], bytes(2 * seen) + hidden)

    def page_moves(self, layer: int, scores: list[list[float]]) -> dict[str, int]:
        """Moves of one layer's pages. Page 0 stands in for a slot that is not used."""
        m, moves = self.m, {}
        for head in range(m["num_kv_heads"]):
            blocks = self.choose(scores[head])
            for slot in range(m["num_slots"]):
                page = blocks[slot] + 1 if slot < len(blocks) else 0
                for side in (0, 1):
                    moves[f"{'kv'[side]}/0/{layer}/{head}/{slot}"] = page_addr(m["pages"], layer, head, side, page)
        return moves

    def choose(self, scores: list[float]) -> list[int]:
        """Blocks of one head, ascending: all, or the last and those with the highest scores."""
        *blocks, last = range(self.num_blocks)
        if len(blocks) >= self.m["num_slots"]:
            blocks = sorted(blocks, key=lambda block: (-scores[block], block))[: self.m["num_slots"] - 1]
        return [*sorted(blocks), last]

    def read_scores(self, layer: int) -> list[list[float]]:
        """Largest score among the query heads of each KV head: [kv_heads][blocks].

        Of a KV head's float32 scores, [query heads][pages], all upper halves lie in front of all lower ones."""
        m, size = self.m, self.m["addresses"]["score_bytes"]
        raw = self.device.read(m["addresses"]["scores"] + layer * size, size)
        row = 2 * m["num_pages"]
        half = m["num_heads"] // m["num_kv_heads"] * row

        def score(head: int, block: int) -> float:
            uppers = range(2 * head * half + 2 * block, (2 * head + 1) * half, row)
            return max(struct.unpack("<f", raw[at + half : at + half + 2] + raw[at : at + 2])[0] for at in uppers)

        return [[score(head, block) for block in range(self.num_blocks)] for head in range(m["num_kv_heads"])]

    def run(self, name: str, moves: dict[str, int]) -> None:
        for program, labels in self.programs[name]:
            for label, points in labels.items():
                if self.now.get((name, label)) != moves[label]:
                    for number, offset, addend in points:
                        self.device.patch(program, number, offset, moves[label] + addend)
            self.device.run(program)
        self.now.update({(name, label): moves[label] for _, labels in self.programs[name] for label in labels})


def page_addr(pages: dict[str, Any], layer: int, head: int, side: int, page: int) -> int:
    """Of a page's first byte; side 0 are keys, 1 values. The base and strides are the manifest's."""
    addr: int = pages["base"] + layer * pages["layer_stride"] + head * pages["head_stride"]
    return addr + side * pages["side_stride"] + page * pages["page_stride"]


def largest(logits: bytes) -> int:
    """Token with the largest logit. bf16 numbers order as signed integers once the magnitude of negative ones is turned
    round."""
    values = struct.unpack(f"<{len(logits) // 2}h", logits)
    return max(range(len(values)), key=lambda i: (values[i] if values[i] >= 0 else -32768 - values[i], -i))


def prompt_tokens(options: argparse.Namespace, manifest: dict[str, Any]) -> list[int]:
    """The prompt that was asked for. Raises BoardError for what cannot be one."""
    if options.prompt is not None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise BoardError(
                "--prompt needs the package tokenizers, which is not installed: give --tokens instead"
            ) from None
        ids = Tokenizer.from_file(os.path.join(HERE, "tokenizer.json")).encode(options.prompt, add_special_tokens=False)
        tokens = [] if manifest["bos"] is None else [manifest["bos"]]
        tokens += ids.ids
    elif options.tokens is not None:
        try:
            tokens = [int(word) for word in options.tokens.split(",")]
        except ValueError:
            raise BoardError(f"--tokens is {options.tokens!r}: give whole numbers with commas between them") from None
    else:
        tokens = list(manifest["prompt"])
    for token in tokens:
        if not 0 <= token < manifest["vocab"]:
            raise BoardError(f"there is no token {token}: the vocabulary has 0 to {manifest['vocab'] - 1}")
    if not tokens:
        raise BoardError("the prompt is empty: give at least one token")
    return tokens


def num_steps(options: argparse.Namespace, manifest: dict[str, Any], tokens: list[int]) -> int:
    """Steps behind the prompt. Raises BoardError where the cache does not hold them."""
    default = min(manifest["steps"], max(manifest["context"] - len(tokens), 0))
    steps: int = default if options.steps is None else options.steps
    if steps < 0:
        raise BoardError(f"--steps is {steps}: give 0 or more")
    if len(tokens) + steps > manifest["context"]:
        raise BoardError(
            f"{len(tokens)} tokens and {steps} steps do not fit, the cache holds {manifest['context']}: take fewer, or "
            f"export with --context {-(-(len(tokens) + steps) // manifest['page_size']) * manifest['page_size']}"
        )
    return steps


def generate(driver: Driver, tokens: list[int], steps: int) -> list[bytes]:
    """The logits after each token of the prompt and of `steps` of the likeliest, which are appended to `tokens`."""
    rows = []
    for index in range(len(tokens) + steps):
        rows.append(driver.decode(tokens[index]))
        if index + 1 >= len(tokens):
            tokens.append(largest(rows[-1]))
    return rows


def text_of(tokens: list[int]) -> str:
    """What the tokens say; a vocabulary may have fewer pieces than the model has rows."""
    pieces = json.loads(read_file("pieces.json").decode())
    said = "".join(pieces[token] for token in tokens if token < len(pieces))
    return said.encode("latin-1").decode("utf-8", "replace")


def run_bundle(options: argparse.Namespace) -> None:
    manifest = json.loads(read_file("manifest.json").decode())
    os.environ.setdefault("SET_CHIP_NAME", manifest["chip"])
    if not os.path.isdir(os.path.dirname(os.path.abspath(options.out))):
        raise BoardError(f"{options.out} cannot be written: its directory does not exist")
    tokens = prompt_tokens(options, manifest)
    steps = num_steps(options, manifest, tokens)
    driver = Driver(manifest, Device(load_library(options.lib), manifest["num_bytes"]))
    started = time.time()
    rows = generate(driver, tokens, steps)
    took = (time.time() - started) / len(rows)
    write_npz(options.out, rows, manifest["vocab"])
    print(text_of(tokens))
    print(f"{len(rows)} steps, {1000 * took:.1f} ms each; logits in {options.out}; tokens {tokens}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", help="prompt as text; needs the package tokenizers")
    prompt.add_argument("--tokens", help="prompt as token ids, with commas between them")
    parser.add_argument("--steps", type=int, help="tokens to generate behind the prompt, the likeliest each time")
    parser.add_argument("--out", default="logits.npz", help="where the logits go (default: logits.npz)")
    lib = os.environ.get("CVI_LIB", "")
    parser.add_argument("--lib", default=lib, help="directory of the runtime's libraries (default: CVI_LIB)")
    try:
        run_bundle(parser.parse_args())
    except (BoardError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
