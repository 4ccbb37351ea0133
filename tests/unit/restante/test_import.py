"""What `import restante` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import restante


def modules_after(code: str, folder: Path) -> set[str]:
    """The modules loaded by a program of its own, that was started in a folder."""
    root = Path(restante.__file__).parents[1]
    program = f"import sys; sys.path.append({str(root)!r})\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, check=True)
    return set(done.stdout.split())


def test_every_public_name_is_there() -> None:
    for name in restante.__all__:
        assert getattr(restante, name).__name__ == name
    assert set(restante.__all__) <= set(dir(restante))
    assert not hasattr(restante, "nothing_of_the_kind")


def test_the_import_alone_loads_nothing(tmp_path: Path) -> None:
    loaded = modules_after("import restante", tmp_path)
    assert not {"zmq", "msgpack", "msgspec", "asyncio"} & loaded


def test_the_blocking_client_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    base = modules_after("import zmq, msgpack, msgspec, click", tmp_path)
    ours = modules_after(
        "from restante import Client\nimport restante.settings, restante.profiles, restante.local", tmp_path
    )
    more = {name for name in ours - base if not name.startswith("restante")}
    assert not more & {"asyncio", "platformdirs", "pathlib", "tomllib", "rich", "logging", "concurrent.futures"}


def test_a_client_does_not_load_what_services_say_to_each_other(tmp_path: Path) -> None:
    loaded = modules_after("from restante import Client, AsyncClient", tmp_path)
    assert "restante.wire.codec" in loaded
    assert not {f"restante.wire.{name}" for name in ("links", "auth_link", "store_link")} & loaded


def test_files_beside_a_script_are_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("schemas", "broker", "runtime", "client", "session", "events", "messages", "settings"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n", "utf-8")
    modules_after(f"sys.path.insert(0, {str(tmp_path)!r})\nfrom restante import Client, AsyncClient", tmp_path)
