"""Where each planted fault was seen when plans were last drawn otherwise: where to look first, and no more than that.

`python -m tests.simulation.run --faults` finds them anew if they are not there any more.
"""

from __future__ import annotations

from typing import Final

SEEN: Final[dict[str, int]] = {}
