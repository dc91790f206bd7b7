"""What a program does wrong, found from its descriptors alone; nothing is run.

>>> from npusim.check import check
>>> for finding in check(parse_cmdbuf(chip, data)):                         # doctest: +SKIP
...     print(finding.severity, finding.kind, finding.message)
"""

from __future__ import annotations

from npusim.check.checker import check
from npusim.check.finding import MEANING, Finding, Kind, Severity
from npusim.check.gmem import Area
from npusim.check.model import check_model

__all__ = ["MEANING", "Area", "Finding", "Kind", "Severity", "check", "check_model"]
