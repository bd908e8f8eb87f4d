"""The registry of optimizers: the command line, the API, jobs and `dspex.optimizers` read it.

A new optimizer is a file with the class and its `ENTRY`, and its lines here. Some names are also
those of optimizers of dspy (`DSPY_OPTIMIZERS`), which jobs run for programs on dspy.
"""

from collections.abc import Mapping

from dspex.learning.optimizers import (
    bootstrap,
    gepa,
    joint,
    labeled_few_shot,
    mipro,
    random_search,
    simba,
)
from dspex.learning.optimizers.bootstrap import BootstrapFewShot
from dspex.learning.optimizers.gepa import GEPA
from dspex.learning.optimizers.joint import Joint
from dspex.learning.optimizers.labeled_few_shot import LabeledFewShot
from dspex.learning.optimizers.mipro import MIPROv2
from dspex.learning.optimizers.options import OptimizerEntry
from dspex.learning.optimizers.random_search import RandomSearch
from dspex.learning.optimizers.simba import SIMBA

__all__ = [
    "GEPA",
    "SIMBA",
    "BootstrapFewShot",
    "Joint",
    "LabeledFewShot",
    "MIPROv2",
    "RandomSearch",
]

OPTIMIZERS: Mapping[str, OptimizerEntry] = {
    entry.name: entry
    for entry in (
        labeled_few_shot.ENTRY,
        bootstrap.ENTRY,
        random_search.ENTRY,
        mipro.ENTRY,
        joint.ENTRY,
        gepa.ENTRY,
        simba.ENTRY,
    )
}


def optimizers_with(flag: str) -> str:
    """Return the names of the optimizers that have an option for a flag of `dspex optimize`."""
    return ", ".join(entry.name for entry in OPTIMIZERS.values() if entry.option_of(flag))
