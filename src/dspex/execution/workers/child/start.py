"""The file that a worker process is started with: `python start.py '<JSON>'`.

It gives the package around it the private name `dspex_child`, so that nothing of dspex's folders comes into
`sys.path`, loads the host by its path in the same way, and serves until the channel ends.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType


def load(name: str, path: Path) -> ModuleType:
    """Import the package or module at `path` under `name`; siblings are reached by relative imports."""
    package = path / "__init__.py" if path.is_dir() else path
    folders = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, package, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Serve with the options given as JSON in the first argument."""
    options = json.loads(sys.argv[1])
    sys.path[:] = [*options["paths"], *sys.path[1:]]
    load("dspex_child", Path(__file__).parent)
    runtime = importlib.import_module("dspex_child.runtime")
    sys.exit(runtime.serve(options, lambda: load("dspex_host", Path(options["host"])).create(options["config"])))


if __name__ == "__main__":
    main()
