"""What is named in text is registered once: adding it touches its own file and the registry."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dspex

pytestmark = pytest.mark.bridge
SOURCE = Path(dspex.__file__).parent

KIND = '''
"""A module that gives its inputs back."""

from collections.abc import Mapping
from typing import Any

from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.signatures import Signature


class Echo(Module):
    def __init__(self, signature: Signature, times: int = 1) -> None:
        self.signature: Signature = signature
        self.times = times

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        echo = " ".join(inputs.values()) * self.times
        return dict.fromkeys(self.signature.output_fields, echo)

    def node(self, path: ModulePath) -> Node:
        config = {"times": self.times}
        return Node(id=str(path), kind=KIND.name, signature=self.signature, config=config)


def _build(node: Node, builder: NodeBuilder) -> Echo:
    return Echo(builder.signature(node), **node.config)


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    return Echo(signature, **settings).to_program(name)


KIND = ModuleKind(
    name="echo", summary="gives its inputs back", build=_build, create=_create, settings=("times",)
)
'''

ADAPTER = '''
"""An adapter for models that reply with the value of the only output."""

from dspex.execution.adapters.chat import ChatAdapter


class PlainAdapter(ChatAdapter):
    name = "plain"

    def parse(self, signature, reply):
        return signature.validate_outputs(dict.fromkeys(signature.output_fields, reply))
'''

BACKEND = '''
"""A backend that answers with what it was asked."""

from collections.abc import Mapping
from typing import Any

from dspex.execution.backends.backend import Backend, Handle
from dspex.execution.backends.backend_kind import BackendKind, BackendResources
from dspex.execution.backends.mock import MockBackend
from dspex.execution.context import RunContext
from dspex.language.records import Prediction


class EchoBackend(MockBackend):
    name = "echo"

    def __init__(self, port: int) -> None:
        super().__init__(kept_calls=0)
        self._port = port

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        return Prediction(said=f"{inputs['text']} at {self._port}")


def _open(resources: BackendResources) -> Backend:
    return EchoBackend(resources.settings["port"])


KIND = BackendKind(
    name="echo", summary="answers with what it was asked", open=_open, settings=("port",)
)
'''


def changed_package(folder: Path, *, new: dict[str, str], lines: dict[str, tuple[str, str]]) -> int:
    """Copy the package to `folder` with new files and lines; return how many files differ."""
    package = folder / "dspex"
    shutil.copytree(SOURCE, package)  # with what is compiled
    for place, text in new.items():
        (package / place).write_text(text.lstrip())
    for place, (before, after) in lines.items():
        text = (package / place).read_text()
        assert text.count(before) == 1
        (package / place).write_text(text.replace(before, after))
    return len(new) + len(lines)


def run_dspex(folder: Path, *arguments: str, **settings: str) -> str:
    """Run the command line of the package in `folder`; return what it printed."""
    process = subprocess.run(
        [sys.executable, "-m", "dspex", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "DSPEX_STATE_DIR": str(folder / "state"),
            **settings,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return process.stdout + process.stderr


def test_a_new_kind_of_module_touches_its_own_file_and_the_registry(tmp_path: Path) -> None:
    files = changed_package(
        tmp_path,
        new={"execution/modules/echo.py": KIND},
        lines={
            "execution/modules/kinds.py": (
                "        predict.KIND,\n",
                "        predict.KIND,\n        echo.KIND,\n",
            )
        },
    )
    registry = tmp_path / "dspex" / "execution" / "modules" / "kinds.py"
    registry.write_text(
        registry.read_text().replace("    dspy_modules,\n", "    dspy_modules,\n    echo,\n")
    )
    assert files == 2
    values = ("name=twice", "signature=text -> said", "module=echo", 'configuration={"times": 2}')
    assert '"ready"' in run_dspex(tmp_path, "do", "create_program", *values)
    assert "hihi" in run_dspex(tmp_path, "run", "twice", "text=hi")
    refused = run_dspex(tmp_path, "do", "create_program", *values[:2], "module=ecko")
    assert "one of: predict, echo, chain_of_thought, react" in refused


def test_a_new_adapter_touches_its_own_file_and_the_registry(tmp_path: Path) -> None:
    files = changed_package(
        tmp_path,
        new={"execution/adapters/plain.py": ADAPTER},
        lines={
            "execution/adapters/registry.py": (
                "        XMLAdapter(),\n",
                "        XMLAdapter(),\n        PlainAdapter(),\n",
            )
        },
    )
    registry = tmp_path / "dspex" / "execution" / "adapters" / "registry.py"
    registry.write_text(
        registry.read_text().replace(
            "from dspex.execution.adapters.tools",
            "from dspex.execution.adapters.plain import PlainAdapter\n"
            "from dspex.execution.adapters.tools",
        )
    )
    assert files == 2
    values = ("name=plain", "signature=text -> said", 'configuration={"adapter": "plain"}')
    assert '"ready"' in run_dspex(tmp_path, "do", "create_program", *values)
    refused = run_dspex(
        tmp_path, "do", "create_program", *values[:2], 'configuration={"adapter": "plane"}'
    )
    assert "one of the adapters chat, json, tools, xml, plain" in refused
    assert "[chat|json|tools|xml|plain]" in run_dspex(tmp_path, "run", "--help")


def test_a_new_backend_touches_its_own_file_and_the_registry(tmp_path: Path) -> None:
    files = changed_package(
        tmp_path,
        new={"execution/backends/echo.py": BACKEND},
        lines={
            "execution/backends/kinds.py": (
                "        mock.KIND,\n",
                "        mock.KIND,\n        echo.KIND,\n",
            )
        },
    )
    registry = tmp_path / "dspex" / "execution" / "backends" / "kinds.py"
    text = registry.read_text()
    registry.write_text(text.replace("import dspy_kind,", "import dspy_kind, echo,"))
    assert files == 2
    assert "native, isolated, dspy, mock, echo" in run_dspex(tmp_path, "run", "--help")
    values = ("name=said", "signature=text -> said")
    refused = run_dspex(tmp_path, "do", "create_program", *values, "backend=ecko")
    assert "Did you mean 'echo'" in refused
    assert '"ready"' in run_dspex(tmp_path, "do", "create_program", *values, "backend=echo")
    assert "hi at 8123" in run_dspex(tmp_path, "run", "said", "text=hi")
    refused = run_dspex(tmp_path, "run", "said", "text=hi", DSPEX_BACKEND="ecko")
    assert "one of native, isolated, dspy, mock, echo" in refused
