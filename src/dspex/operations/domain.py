"""The list of all resources and actions.

Actions are imported at their first use, because commands that only read do not use them.
"""

from collections.abc import Mapping
from typing import Any

from dspex.operations.collections.records import (
    COLLECTION,
    DOCUMENT,
    DOCUMENT_VERSION,
    INGESTION,
)
from dspex.operations.datasets.records import DATASET
from dspex.operations.evaluations.feedback_records import ANNOTATION, FEEDBACK
from dspex.operations.evaluations.records import EVALUATION, EVALUATION_PART
from dspex.operations.events.records import EVENT
from dspex.operations.executions.records import EXECUTION, EXECUTION_ENTRY, PROCESS, QUESTION
from dspex.operations.executions.session_records import SESSION, SESSION_TURN
from dspex.operations.framework.action import Action, actions_of
from dspex.operations.framework.audit import AUDIT_ENTRY
from dspex.operations.framework.domain import Domain
from dspex.operations.jobs.job import JobResource
from dspex.operations.jobs.records import JOB_WORKER
from dspex.operations.optimizations.records import OPTIMIZATION_JOB, TRIAL
from dspex.operations.programs.records import PROGRAM, PROGRAM_VERSION, SIGNATURE
from dspex.operations.tenancy.records import API_KEY, SECRET, WORKSPACE
from dspex.operations.tenancy.usage import WORKSPACE_USAGE


def _actions() -> tuple[Action[Any, Any], ...]:
    from dspex.operations.collections import actions as collection_actions
    from dspex.operations.datasets import actions as dataset_actions
    from dspex.operations.evaluations import actions as evaluation_actions
    from dspex.operations.evaluations import annotation_actions, feedback_actions
    from dspex.operations.executions import actions as execution_actions
    from dspex.operations.executions import program_metrics, session_actions
    from dspex.operations.optimizations import actions as optimization_actions
    from dspex.operations.programs import actions as program_actions
    from dspex.operations.tenancy import actions as tenancy_actions

    return actions_of(
        program_actions,
        execution_actions,
        program_metrics,
        session_actions,
        dataset_actions,
        collection_actions,
        evaluation_actions,
        feedback_actions,
        annotation_actions,
        optimization_actions,
        tenancy_actions,
    )


DOMAIN = Domain(
    WORKSPACE,
    WORKSPACE_USAGE,
    API_KEY,
    SECRET,
    SIGNATURE,
    PROGRAM,
    PROGRAM_VERSION,
    SESSION,
    EXECUTION,
    QUESTION,
    EXECUTION_ENTRY,
    SESSION_TURN,
    FEEDBACK,
    ANNOTATION,
    DATASET,
    COLLECTION,
    DOCUMENT,
    DOCUMENT_VERSION,
    INGESTION,
    EVALUATION,
    EVALUATION_PART,
    OPTIMIZATION_JOB,
    TRIAL,
    JOB_WORKER,
    EVENT,
    AUDIT_ENTRY,
    PROCESS,
    actions=_actions,
)


def queues_of(domain: Domain) -> Mapping[str, JobResource[Any]]:
    """Return the kinds of jobs in a domain by the name of their queue."""
    return {
        resource.queue: resource
        for resource in domain.values()
        if isinstance(resource, JobResource)
    }


QUEUES = queues_of(DOMAIN)
