"""A machine's container engine as a node of a cluster: pods by their manifests, on a network with names of services."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.chart import Pod
from tests.deploy.containers import docker, docker_may
from tests.waiting import wait_until

IMAGE = "txwatch:0.1.0"
SUBNET, HERE = "192.168.213.0/24", "192.168.213.1"


class Node:
    """Starts pods. `secrets` are the values of what pods take from secrets, `outside` what the test adds for each.

    What a manifest says of the user, the root file system, rights, memory and mounts, the engine holds them to.
    """

    def __init__(self, network: str, folder: Path, secrets: Mapping[str, str], outside: Mapping[str, str]) -> None:
        # Those that the engine gives to others begin at the other end.
        self._addresses: Iterator[IPv4Address] = reversed(list(IPv4Network(SUBNET).hosts()))
        self._network, self._folder, self._secrets, self._outside = network, folder, secrets, outside
        self.addresses: dict[str, str] = {}

    @property
    def instance(self) -> Path:
        """What stands for the chart's ConfigMap."""
        return self._folder / "instance"

    def start(self, name: str, pod: Pod) -> None:
        """Start a pod's container, as the service txwatch-NAME."""
        self.addresses[name] = str(next(self._addresses))
        variables = self._outside | self._variables(name, pod)
        given = [word for one in variables.items() for word in ("--env", "=".join(one))]
        named = ["--name", f"chart-{name}", "--network-alias", f"txwatch-{name}", "--ip", self.addresses[name]]
        where = ["--network", self._network, *named, *self._bounds(pod), *self._mounts(name, pod), *given]
        docker("run", "--detach", *where, *self._command(pod))

    def _command(self, pod: Pod) -> list[str]:
        entry = pod.container.get("command")
        before = [] if entry is None else ["--entrypoint", entry[0]]
        return [*before, IMAGE, *(entry or [])[1:], *pod.container.get("args", [])]

    def _variables(self, name: str, pod: Pod) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in pod.container["env"]:
            source = one.get("valueFrom", {})
            if "value" in one:
                found[one["name"]] = one["value"].replace("$(POD_IP)", self.addresses[name])
            elif "secretKeyRef" in source:
                found[one["name"]] = self._secrets[one["name"]]
            else:
                assert source["fieldRef"]["fieldPath"] == "status.podIP", one
                found[one["name"]] = self.addresses[name]
        return found

    def _bounds(self, pod: Pod) -> list[str]:
        user, own = pod.spec["securityContext"], pod.container["securityContext"]
        assert user["runAsNonRoot"]
        assert own["readOnlyRootFilesystem"]
        assert not own["allowPrivilegeEscalation"]
        dropped = [word for one in own["capabilities"]["drop"] for word in ("--cap-drop", one)]
        memory = pod.container["resources"]["limits"]["memory"].removesuffix("i").lower()
        rights = ["--read-only", "--security-opt", "no-new-privileges", *dropped]
        return ["--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--memory", memory, *rights]

    def _mounts(self, name: str, pod: Pod) -> list[str]:
        volumes = {one["name"]: one for one in pod.spec["volumes"]}
        words = []
        for mount in pod.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            place = self.instance if "configMap" in volume else self._folder / (claim or f"{name}-{mount['name']}")
            place.mkdir(exist_ok=True)
            # `fsGroup`: what the node makes for a pod belongs to its group.
            os.chown(place, -1, pod.spec["securityContext"]["fsGroup"])
            place.chmod(0o2775)
            words += ["--volume", f"{place}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}"]
        return words

    def wait(self, name: str, pod: Pod) -> None:
        """Return once the container's own startup probe passes."""

        def passes() -> bool:
            assert self.is_running(name), self.log(name)[-3000:]
            return self._passes(name, pod, pod.container["startupProbe"])

        wait_until(passes, f"the probe of {name}", look_every=1.0)

    def _passes(self, name: str, pod: Pod, probe: dict[str, Any]) -> bool:
        if "httpGet" not in probe:
            return docker_may("exec", f"chart-{name}", *probe["exec"]["command"])
        port = pod.container["ports"][0]["containerPort"]
        try:
            # By its address, as the kubelet asks.
            return httpx.get(f"http://{self.addresses[name]}:{port}{probe['httpGet']['path']}", timeout=30).is_success
        except httpx.HTTPError:
            return False

    def ended(self, name: str) -> int:
        """The exit status of a container, once it has ended."""
        return int(docker("wait", f"chart-{name}"))

    def is_running(self, name: str) -> bool:
        """Whether a container runs."""
        return docker("inspect", "--format", "{{.State.Running}}", f"chart-{name}").strip() == "true"

    def log(self, name: str) -> str:
        """What a container has said."""
        return docker("logs", f"chart-{name}")


@contextmanager
def network(name: str) -> Iterator[str]:
    """The address of this machine on a network of the engine, which is removed with all that is on it."""
    _remove(name)  # a run that was killed leaves it
    # The engine lets addresses be chosen only where the subnet was.
    docker("network", "create", "--subnet", SUBNET, "--gateway", HERE, name)
    try:
        yield HERE
    finally:
        _remove(name)


def _remove(name: str) -> None:
    for container in docker("ps", "--all", "--quiet", "--filter", f"network={name}").split():
        docker("rm", "--force", "--volumes", container)
    docker_may("network", "rm", name)
