"""The system of docker-compose.yml in real containers, as `deploy/containers.sh` has an engine for them.

The project's files are copied to a folder of the test, with secrets of their own: what a developer has in `.env`,
`deploy/secrets` and volumes is neither read nor changed.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.compose import PROJECT

LIMIT_SECONDS = 1500


@dataclass(frozen=True)
class Service:
    """What the engine says of a service's container."""

    state: str
    health: str
    exit_code: int


class System:
    """One project of Compose in `folder`, with these files and variables."""

    def __init__(self, folder: Path, files: Sequence[str], env_file: str, **variables: str) -> None:
        self.folder = folder
        self._env_file = env_file
        own = {"COMPOSE_FILE": ":".join(files)}
        if os.cpu_count() == 1 or len(os.sched_getaffinity(0)) == 1:
            own["COMPOSE_CPUS"] = "1"  # as docs/operations.md says
        self._environment = os.environ | own | variables

    def compose(self, *arguments: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `docker compose`, as a person would in this folder."""
        command = ["docker", "compose", "--env-file", self._env_file, "--progress", "quiet", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, input=text, capture_output=True, text=True, check=False,
            timeout=LIMIT_SECONDS,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    def services(self) -> dict[str, Service]:
        """All that have a container."""
        lines = self.compose("ps", "--all", "--format", "json").stdout.splitlines()
        found = [json.loads(line) for line in lines]
        return {one["Service"]: Service(one["State"], one["Health"], one["ExitCode"]) for one in found}

    def described(self, service: str) -> dict[str, Any]:
        """The container of a service as the engine describes it."""
        container = self.compose("ps", "--all", "--quiet", service).stdout.split()[0]
        [described] = json.loads(docker("inspect", container))
        return dict(described)

    def python(self, service: str, code: str, *, complete: bool = False) -> str:
        """What a program prints in a service's container; `complete` gives it the environment that the service has."""
        before = ["python", "-m", "txwatch.system.entrypoint"] if complete else []
        return self.compose("exec", "-T", service, *before, "python", "-", text=code).stdout

    def query(self, statement: str) -> list[list[str]]:
        """The rows of a statement that the owner of the tables runs."""
        psql = ["psql", "--username=txwatch", "--no-align", "--tuples-only", "--field-separator=\t", "--command"]
        answer = self.compose("exec", "-T", "postgres", *psql, statement).stdout
        return [line.split("\t") for line in answer.splitlines()]

    def kill_hard(self, service: str) -> None:
        """End all processes of a service as a machine without memory does: the engine did not ask for it."""
        os.kill(self.described(service)["State"]["Pid"], 9)


def docker(*arguments: str) -> str:
    """What the engine's own command prints; of `logs` all that a container said."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-4000:]}"
    return done.stdout + (done.stderr if arguments[0] == "logs" else "")


def docker_may(*arguments: str) -> bool:
    """Whether the engine's own command succeeds."""
    return subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode == 0


def copy_project(folder: Path) -> None:
    """Copy the files that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        source, target = PROJECT / name, folder / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode & 0o777)


def last_version() -> str | None:
    """The newest release's tag; before there is one, a commit before the newest migration; None without a history.

    Not within a branch whose migration has a number that another's had already: its code cannot make a database.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    if tag := git("describe", "--tags", "--abbrev=0"):
        return tag
    folder = "txwatch/store/migrations/versions"
    newest = max(file.name for file in (PROJECT / folder).glob("[0-9]*.py"))
    for commit in git("rev-list", "--max-count=200", "HEAD").splitlines():
        names = [Path(line).name for line in git("ls-tree", "--name-only", commit, f"{folder}/").splitlines()]
        numbers = [name[:4] for name in names if name.endswith(".py")]
        if newest not in names and len(numbers) == len(set(numbers)):
            return commit
    return None


def unpack_version(version: str, folder: Path) -> None:
    """The files of a version."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", version], cwd=PROJECT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
