"""What the scripted model answers, by the fields that a prompt asks for.

The same here and on plain dspy.
"""

import json
import re

_CHAT = re.compile(r"`\[\[ ## (\w+) ## \]\]`")
VALUES = {
    "answer": "Paris",
    "answers": ["Paris", "Lyon"],
    "boxes": [{"name": "a", "size": 2}],
    "category": "travel",
    "city": {"name": "Paris", "size": 3},
    "confidence": 0.5,
    "count": 7,
    "is_done": True,
    "label": "high",
    "next_tool_args": {"word": "sea"},
    "scores": {"a": 1},
    "stars": 4,
}


def reply(messages):
    """Return the reply to a prompt in chat layout.

    What an agent does next depends on what it has done.
    """
    last = messages[-1]["content"]
    names = [
        name for name in _CHAT.findall(last.rpartition("Respond with")[2]) if name != "completed"
    ]
    values = {**VALUES, "next_tool_name": "finish" if "observation_0" in last else "look_up"}
    if values["next_tool_name"] == "finish":
        values["next_tool_args"] = {}
    parts = [f"[[ ## {name} ## ]]\n{_text(values.get(name, f'some {name}'))}" for name in names]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)
