"""The entry point of a worker process: `python start.py '<JSON>'`.

It imports its own package under the private name `dspex_child`, so that no folder of dspex is added
to `sys.path`, imports the host by path in the same way, and serves until the channel ends.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType


def load(name: str, path: Path) -> ModuleType:
    """Import the package or module at `path` under `name`; relative imports reach its siblings."""
    package = path / "__init__.py" if path.is_dir() else path
    folders = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, package, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Serve with the options from the first argument, a JSON object."""
    options = json.loads(sys.argv[1])
    sys.path[:] = [*options["paths"], *sys.path[1:]]
    load("dspex_child", Path(__file__).parent)
    runtime = importlib.import_module("dspex_child.runtime")
    sys.exit(
        runtime.serve(
            options, lambda: load("dspex_host", Path(options["host"])).create(options["config"])
        )
    )


if __name__ == "__main__":
    main()
