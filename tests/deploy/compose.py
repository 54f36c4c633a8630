"""docker-compose.yml as its reader sees it, and its commands as this machine can run them.

What Docker would do is done here by substitution, and by nothing else: a service's host name is loopback, `/data` and
`/run/secrets` are folders of the test, and the image's paths are those of this interpreter.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / "docker-compose.yml"
IMAGE = "txwatch:"
ENTRYPOINT = ["python", "-m", "txwatch.system.entrypoint"]
"""As the Dockerfile states it; a test compares them."""

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


def read_env_file(name: str) -> dict[str, str]:
    """The variables of a file that is given with --env-file."""
    lines = (PROJECT / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def load(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with its variables filled in."""
    loaded: dict[str, Any] = _filled_in(yaml.safe_load(FILE.read_text()), variables or {})
    return loaded


def _filled_in(value: Any, given: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(inner, given) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled_in(inner, given) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: given.get(found["name"]) or found["default"] or "", value)
    return value


def variables_of_file() -> set[str]:
    """The names of all variables that the file reads."""
    return {found["name"] for found in _VARIABLE.finditer(FILE.read_text())}


def ours(compose: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that run the project's own image."""
    return {name: service for name, service in compose["services"].items() if service["image"].startswith(IMAGE)}


def health_command(service: Mapping[str, Any]) -> list[str] | None:
    """The command of a service's health check, None when the image's applies."""
    check = service.get("healthcheck", {})
    if check.get("disable"):
        return []
    test = check.get("test")
    if test is None:
        return None
    assert test[0] == "CMD"
    return [str(word) for word in test[1:]]


@dataclass(frozen=True)
class Machine:
    """This machine in place of Docker's: where volumes and secrets are."""

    data: Path
    secrets: Path
    services: frozenset[str]

    def here(self, text: str) -> str:
        """The text with what only exists in containers replaced."""
        for name in self.services:
            text = re.sub(rf"(?:(?<=[/@,\"])|^){name}(?=:\d)", "127.0.0.1", text)
        text = text.replace("/run/secrets", str(self.secrets)).replace("0.0.0.0", "127.0.0.1")
        # A checkout has at its top what a wheel has under share/.
        text = text.replace("/opt/txwatch/share/txwatch", str(PROJECT))
        return re.sub(r"^/data\b", str(self.data), text)

    def command(self, service: Mapping[str, Any]) -> list[str]:
        """The entry point and the service's command, as this machine runs them."""
        return self.run_as_here([*ENTRYPOINT, *map(str, service["command"])])

    def run_as_here(self, command: list[str]) -> list[str]:
        """A command of the image, as this machine runs it."""
        words = [self.here(word) for word in command]
        return [str(Path(sys.executable).with_name("python")) if word == "python" else word for word in words]

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """What the service's processes see: the file's variables, and of this machine's only what finds programs."""
        stated = {name: self.here(str(value)) for name, value in service.get("environment", {}).items()}
        # The programs of this interpreter stand for those of the image; txwatch runs from the checkout.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"PATH": path, "PYTHONPATH": str(PROJECT), "HOME": str(self.data), **stated}
