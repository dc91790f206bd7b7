"""Where a program's time goes: a Profile of a timeline, and the modules that write it as text, JSON, page and files.

>>> from npusim.profile import profile_program
>>> result = profile_program("golden/data/functional/step_cv181x_int8.cvimodel", "duo256m")
>>> result
<Profile step_cv181x_int8.cvimodel on duo256m: 134.5 µs, TIU 10 %, TDMA 91 %>
>>> result.instructions[0].name, result.bound, result.lmem.peak_bytes
('tdma_g2l_matrix_copy', 'TDMA', 51200)
"""

from __future__ import annotations

from npusim.profile.profile import Profile, profile_program

__all__ = ["Profile", "profile_program"]
