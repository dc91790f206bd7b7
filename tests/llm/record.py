"""Writes what the vendor's model makes of the lowered programs: CVI_LIB=DIR python -m tests.llm.record"""

from __future__ import annotations

import json

from tests.llm.test_programs import CASES, RECORD, vendor_digests


def main() -> None:
    record = {f"{precision} {board}": vendor_digests(precision, board) for precision, board in CASES}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
