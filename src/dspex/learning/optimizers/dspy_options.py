"""The options of dspy's optimizers that callers may set; all others are rejected.

They have more options: output folders, threads, other models, functions. Only an operator can set
those, by calling `DspyBackend.optimize_program` from Python.
"""

from collections.abc import Mapping

from dspex.learning.optimizers.options import (
    DEMOS,
    FLAG,
    ROWS,
    SCORE,
    SIZE,
    DspyOptions,
    Option,
    choice,
    number,
    whole_number,
)

_SEED = whole_number(0, 2**31 - 1)
_TEMPERATURE = number(0, 2)
_EFFORT = choice("light", "medium", "heavy", None)
_BOOTSTRAP: Mapping[str, Option] = {
    "metric_threshold": SCORE,
    "max_bootstrapped_demos": DEMOS,
    "max_labeled_demos": DEMOS,
    "max_rounds": whole_number(1, 100),
    "max_errors": whole_number(0, 1_000_000, optional=True),
}


def _bootstrap_without(*names: str) -> dict[str, Option]:
    return {name: option for name, option in _BOOTSTRAP.items() if name not in names}


DSPY_OPTIMIZERS: Mapping[str, DspyOptions] = {
    "LabeledFewShot": DspyOptions(options={"k": DEMOS}, compile={"sample": FLAG}),
    "BootstrapFewShot": DspyOptions(options=_BOOTSTRAP),
    "BootstrapFewShotWithRandomSearch": DspyOptions(
        options={**_BOOTSTRAP, "num_candidate_programs": SIZE, "stop_at_score": SCORE},
        compile={"labeled_sample": FLAG},
    ),
    "BootstrapFewShotWithOptuna": DspyOptions(
        options={
            **_bootstrap_without("metric_threshold", "max_errors"),
            "num_candidate_programs": SIZE,
        },
        compile={"max_demos": DEMOS},
    ),
    "COPRO": DspyOptions(
        options={
            "breadth": whole_number(2, 100),
            "depth": whole_number(1, 100),
            "init_temperature": _TEMPERATURE,
        }
    ),
    "MIPROv2": DspyOptions(
        options={
            **_bootstrap_without("max_rounds"),
            "auto": _EFFORT,
            "num_candidates": whole_number(1, 1000, optional=True),
            "seed": _SEED,
            "init_temperature": _TEMPERATURE,
        },
        compile={
            "num_trials": whole_number(1, 10_000, optional=True),
            "max_bootstrapped_demos": whole_number(0, 256, optional=True),
            "max_labeled_demos": whole_number(0, 256, optional=True),
            "seed": _SEED,
            "minibatch": FLAG,
            "minibatch_size": ROWS,
            "minibatch_full_eval_steps": SIZE,
            "program_aware_proposer": FLAG,
            "data_aware_proposer": FLAG,
            "view_data_batch_size": SIZE,
            "tip_aware_proposer": FLAG,
            "fewshot_aware_proposer": FLAG,
        },
    ),
    "SIMBA": DspyOptions(
        options={
            "bsize": SIZE,
            "num_candidates": SIZE,
            "max_steps": SIZE,
            "max_demos": DEMOS,
            "demo_input_field_maxlen": whole_number(1, 10_000_000),
            "temperature_for_sampling": _TEMPERATURE,
            "temperature_for_candidates": _TEMPERATURE,
        },
        compile={"seed": _SEED},
    ),
    "InferRules": DspyOptions(
        options={**_BOOTSTRAP, "num_candidates": SIZE, "num_rules": whole_number(1, 100)}
    ),
    "GEPA": DspyOptions(
        options={
            "auto": _EFFORT,
            "max_full_evals": whole_number(1, 10_000, optional=True),
            "max_metric_calls": whole_number(1, 1_000_000, optional=True),
            "reflection_minibatch_size": SIZE,
            "candidate_selection_strategy": choice("pareto", "current_best"),
            "component_selector": choice("round_robin", "all"),
            "skip_perfect_score": FLAG,
            "add_format_failure_as_feedback": FLAG,
            "use_merge": FLAG,
            "max_merge_invocations": whole_number(0, 1000, optional=True),
            "failure_score": SCORE,
            "perfect_score": SCORE,
            "seed": _SEED,
        }
    ),
}
