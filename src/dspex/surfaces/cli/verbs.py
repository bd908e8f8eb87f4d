"""The noun and the verb of each action: where it is on the command line."""

import re
from typing import Any

from dspex.operations.framework.action import Action
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.resource import Resource
from dspex.surfaces.cli.references import noun_of


def noun_and_verb(action: Action[Any, Any], domain: Domain) -> tuple[Resource[Any], str]:
    """Return where an action is found: `create_api_key` is `key create`.

    An action that names another resource than the one of its result is a verb of the named one:
    `execute_program`, which returns an execution, is `program execute`.
    """
    resource = action.resource
    nouns = {*resource.name.split("_"), *resource.plural.split("_"), noun_of(resource)}
    words = action.name.removeprefix("known_").split("_")
    rest = [word for word in words if word not in nouns and f"{resource.name}_{word}" not in domain]
    if rest != words:
        return resource, "-".join(rest or words)
    name = "_".join(words)
    objects = [
        (each, name.removesuffix(f"_{noun}"))
        for each in domain.values()
        for noun in (each.name, each.plural)
        if not each.is_internal and name.endswith(f"_{noun}")
    ]
    resource, verb = min(objects, key=lambda each: len(each[1]), default=(resource, name))
    return resource, verb.replace("_", "-")


def with_commands(text: str, domain: Domain) -> str:
    """Return text with the command of each action that it names in backticks."""
    actions = {action.name: action for action in domain.actions}

    def command(match: re.Match[str]) -> str:
        action = actions.get(match[1])
        if action is None:
            return match[0]
        resource, verb = noun_and_verb(action, domain)
        return f"`dspex {noun_of(resource)} {verb}`"

    return re.sub(r"`(\w+)`", command, text)
