"""Plants one of the simulator's faults in every process that has this folder on its path, for all its life: a proof
that a torture run sees what it is there to see (`--fault`).
"""

import os

from tests.simulation.faults import planted

_planted = planted(os.environ["TORTURE_FAULT"])
_planted.__enter__()
