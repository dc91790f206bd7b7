"""Writes what the vendor's model makes of the lowered programs: CVI_LIB=DIR python -m tests.llm.record"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from golden import write_archive
from npusim.llm.demo import GOLDEN, demo_run, demo_tokens
from npusim.llm.device import Device
from tests.llm.test_batch import VENDOR_CASES, vendor_case, vendor_digest
from tests.llm.test_programs import CASES, RECORD, on_vendor, vendor_digests


def main() -> None:
    record: dict[str, Any] = {f"{precision} {board}": vendor_digests(precision, board) for precision, board in CASES}
    for name in VENDOR_CASES:
        low = vendor_case(name)
        record[name] = on_vendor(partial(vendor_digest, low), low.setup.board.chip.name)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    Path(str(GOLDEN)).parent.mkdir(exist_ok=True)
    write_archive(Path(str(GOLDEN)), {"logits": on_vendor(demo_logits, "cv181x")})


def demo_logits(device: Device) -> np.ndarray:
    run = demo_run()
    list(demo_tokens(run, device))
    return np.stack(run.logits)


if __name__ == "__main__":
    main()
