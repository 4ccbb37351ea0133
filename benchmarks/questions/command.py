"""What does one command cost, cold, to a running server?"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.local_server import chat, isolated
from benchmarks.peers import mosquitto
from benchmarks.peers.child import HOST
from benchmarks.peers.peer import NotOffered
from benchmarks.peers.restante import Place
from benchmarks.processes import took_s
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage
from benchmarks.start import BARE


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    with tempfile.TemporaryDirectory(prefix="restante-command-") as name:
        folder = Path(name)
        env = {**isolated(folder), "PYTHONPYCACHEPREFIX": str(folder / "cache")}  # compiled once, as if installed
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = _mosquitto(stage) if stage.peer.key == "mosquitto" else _restante(stage, env)
        times: dict[str, list[float]] = {key: [] for key in commands}
        for turn in range(sizes.commands + 1):  # the first fills the caches
            for key, command in commands.items():
                took = took_s(command, env, folder)
                if turn:
                    times[key].append(took)
    medians = {key: statistics.median(taken) for key, taken in times.items()}
    for key, took in medians.items():
        values = {"took": took}
        if "imports" in medians:
            values["ratio"] = took / medians["imports"]
        yield Sample(question="command", peer=key, values=values)


def _restante(stage: Stage, env: dict[str, str]) -> dict[str, list[str]]:
    place = msgspec.json.decode(stage.server.endpoint, type=Place)
    env |= {"CHAT_ADDRESS": place.address, "CHAT_TOKEN": place.senders[0]}
    return {"imports": BARE, "restante": chat("send", "m0000", "hi")}


def _mosquitto(stage: Stage) -> dict[str, list[str]]:
    program = shutil.which("mosquitto_pub")
    if program is None:
        raise NotOffered("mosquitto_pub is not installed: apt-get install mosquitto-clients")
    place = msgspec.json.decode(stage.server.endpoint, type=mosquitto.Place)
    at = ["-h", HOST, "-p", str(place.port)]
    return {"mosquitto": [program, *at, "-q", "1", "-t", "command", "-m", "hi"]}


QUESTION = Question(
    key="command",
    title="A cold command",
    method="`chat send bob hi`, `mosquitto_pub -q 1`, and `python -c 'import zmq, msgpack, msgspec, click'`, from"
    " nothing to their end, in turn; medians. `chat send` does all that it does for a user: settings, a CURVE"
    " connection, hello, resume, send, and the store's sync to disk.",
    columns=(
        Column(key="took", header="took", unit="ms"),
        Column(key="ratio", header="to the imports", unit="×", plotted=False),
    ),
    ask=ask,
    fresh=True,
    only=("restante", "mosquitto"),
)
