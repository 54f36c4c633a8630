"""docker-compose.yml is valid, names only what exists, and keeps what the deployment promises."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from typer.main import get_command
from uvicorn.importer import import_from_string

from tests.deploy import compose
from txwatch.cli import app
from txwatch.guard import BoundedH11
from txwatch.settings import Settings
from txwatch.store.roles import RIGHTS
from txwatch.system.entrypoint import SECRETS
from txwatch.system.environment import DEMO_PORTS, PORTS, system_environment

LOADED = compose.load()
SERVICES: dict[str, dict[str, Any]] = LOADED["services"]
OURS = compose.ours(LOADED)
UIS = {
    "webserver": 3000,
    "mlflow": 5000,
    "api": 8000,
    "dashboard": 8502,
    "prometheus": 9090,
    "alertmanager": 9093,
    "grafana": 3001,
}
"""What may be published; the API has a page of its own."""
OF_LIBRARIES = {
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
}
"""Variables that MLflow and boto3 read; that they do is tested below."""


def test_the_file_follows_the_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(compose.FILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_misspelt_key_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(compose.FILE.read_text().replace("stop_grace_period: 90s", "stop_grace_time: 90s"))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_restarted_limited_and_logs_within_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"].startswith(("unless-stopped", "on-failure"))
    assert service["init"] is True
    assert service["stop_grace_period"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    # An engine refuses to start what may use more processors than the machine has.
    assert float(limits["cpus"]) <= 2
    of_one = compose.load({"COMPOSE_CPUS": "1"})["services"][name]["deploy"]["resources"]["limits"]
    assert float(of_one["cpus"]) <= 1
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_writes_beside_its_volumes(name: str) -> None:
    # LocalStack installs itself at its start.
    assert SERVICES[name]["read_only"] is (name != "localstack")
    assert "/tmp" in SERVICES[name]["tmpfs"]  # noqa: S108 - in the container


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_only_uis_are_published_and_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        address, published, _ = port.split(":")
        assert address == "127.0.0.1"
        assert UIS.get(name) == int(published) or SERVICES[name].get("profiles") == ["localstack"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_and_what_it_mounts_exists(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert set(service.get("secrets", [])) <= set(LOADED["secrets"])
    assert set(service["networks"]) <= set(LOADED["networks"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if not source.startswith("./"):
            assert source in LOADED["volumes"]
        elif source.startswith("./deploy/monitoring") and not (compose.PROJECT / "deploy/monitoring").exists():
            pytest.skip("this build has no deploy/monitoring")
        else:
            assert (compose.PROJECT / source).exists()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_health_only_where_there_is_a_check(name: str) -> None:
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        if condition["condition"] == "service_healthy":
            assert compose.health_command(SERVICES[other]) or other in OURS


@pytest.mark.parametrize("name", OURS)
def test_each_command_exists_with_its_options(name: str) -> None:
    words = [str(word) for word in OURS[name]["command"]]
    if words[:1] == ["txwatch"]:
        command = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2])
    else:
        assert (Path(sys.executable).parent / words[0]).exists()
    if "-m" in words:
        assert importlib.util.find_spec(words[words.index("-m") + 1])
    if "-w" in words:
        assert words[words.index("-w") + 1] == "/opt/txwatch/share/txwatch/workspace.yaml"
        assert '"workspace.yaml" = "share/txwatch/workspace.yaml"' in (compose.PROJECT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", OURS)
def test_the_port_that_a_command_opens_is_the_one_that_is_published_and_asked(name: str) -> None:
    service = OURS[name]
    words = [str(word) for word in service["command"]]
    opened = next((words[words.index(flag) + 1] for flag in ("--port", "-p") if flag in words), None)
    published = [port.split(":")[2] for port in service.get("ports", [])]
    asked = re.findall(r"127\.0\.0\.1(?::|', )(\d+)", " ".join(compose.health_command(service) or []))
    assert set(published) | set(asked) <= {opened}


def test_ports_are_those_of_the_documents() -> None:
    words = {name: [str(word) for word in service["command"]] for name, service in OURS.items()}
    assert words["webserver"][words["webserver"].index("-p") + 1] == str(PORTS["Dagster"])
    assert words["feed"][words["feed"].index("--port") + 1] == str(DEMO_PORTS["the local feed"])
    assert words["telegram"][words["telegram"].index("--port") + 1] == str(DEMO_PORTS["the local Telegram"])
    assert OURS["code"]["environment"]["TXWATCH_CODE_PORT"] == str(PORTS["the code server"])


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_one_that_something_reads(name: str, tmp_path: Path) -> None:
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    known = settings | OF_LIBRARIES | set(system_environment(tmp_path, "postgresql://h/d"))
    for variable in OURS[name]["environment"]:
        assert variable in known or (variable.endswith("_FILE") and variable.removesuffix("_FILE") in SECRETS)


@pytest.mark.parametrize("variable", sorted(OF_LIBRARIES - {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}))
def test_libraries_read_the_variables_that_are_theirs(variable: str) -> None:
    if variable.startswith("AWS_"):
        from botocore import configprovider

        if variable == "AWS_DEFAULT_REGION":
            assert configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES["region"][1] == variable
        else:
            given = {variable: "http://localstack:4566"}
            assert configprovider.ConfiguredEndpointProvider({}, {}, "s3", given).provide() == given[variable]
        return
    found = importlib.util.find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    sources = [folder / "environment_variables.py", folder / "utils/cli_args.py", folder / "cli/__init__.py"]
    assert any(f'"{variable}"' in source.read_text() for source in sources)


def test_who_keeps_or_reads_files_is_told_where_they_are() -> None:
    told = {name for name, service in OURS.items() if "TXWATCH_REPORTS" in service["environment"]}
    assert told == {"mlflow", "code", "api", "dashboard"}
    assert all("AWS_ENDPOINT_URL" in OURS[name]["environment"] for name in told)


@pytest.mark.parametrize("name", OURS)
def test_a_service_has_the_secrets_that_it_reads_and_no_others(name: str) -> None:
    named = {key: Path(value) for key, value in OURS[name]["environment"].items() if "/run/secrets" in str(value)}
    if folder := named.pop("DATABASE_ROLES", None):
        named |= {f"{role}_FILE": folder / f"database_{role}" for role in RIGHTS}
    assert all(variable.endswith("_FILE") for variable in named)
    assert {file.name for file in named.values()} == set(OURS[name].get("secrets", []))


def test_what_dotenv_holds_of_secrets_reaches_only_who_reads_them() -> None:
    """`.env` is read by all services; what is stated here goes before it, also an empty value."""
    given = {name: "secret" for name in SECRETS if name not in {"DATABASE_URL", "DATABASE_PASSWORD"}}
    readers = {
        "TELEGRAM_BOT_TOKEN": {"code", "bot"},
        "TXWATCH_API_KEY": {"api", "dashboard"},
        "BITCOIN_RPC_URL": {"code"},
        "TXWATCH_BROKER_URL": set(),
        "AWS_SECRET_ACCESS_KEY": {"mlflow", "code", "api", "dashboard"},
    }
    assert set(given) == set(readers)
    ours = compose.ours(compose.load(given))
    for variable, names in readers.items():
        assert {name for name in ours if ours[name]["environment"].get(variable, "secret") == "secret"} == names


def test_networks_are_by_need() -> None:
    members = {
        network: {name for name in SERVICES if network in SERVICES[name]["networks"]} for network in LOADED["networks"]
    }
    closed = {name for name, network in LOADED["networks"].items() if network == {"internal": True}}
    assert closed == {"database", "features", "demo"}
    shut_in = {name for name in SERVICES if set(SERVICES[name]["networks"]) <= closed}
    assert shut_in == {"postgres", "redis", "feed", "telegram"}
    assert members["dagster"] == {"code", "webserver", "daemon"}
    assert SERVICES["code"]["networks"]["dagster"] == {"aliases": [OURS["code"]["environment"]["TXWATCH_CODE_HOST"]]}
    assert members["database"] - set(OURS) == {"postgres"}
    assert members["features"] == {"redis", "init", "code", "api"}
    assert members["demo"] == {"feed", "telegram", "code", "bot"}
    assert members["outside"] == {"init", "bot"}


@pytest.mark.parametrize("name", OURS)
def test_the_health_checks_of_python_can_be_read(name: str) -> None:
    command = compose.health_command(OURS[name])
    if command and command[:2] == ["python", "-c"]:
        ast.parse(command[2])


def test_the_names_by_which_services_ask_each_other_are_allowed() -> None:
    """A web server that is asked by another name answers 403."""
    scraped = yaml.safe_load((compose.PROJECT / "deploy/docker/prometheus.yml").read_text())["scrape_configs"]
    asked = {target for job in scraped for group in job["static_configs"] for target in group["targets"]}
    for service in OURS.values():
        urls = [str(service["environment"].get(name, "")) for name in ("TXWATCH_API_URL", "MLFLOW_TRACKING_URI")]
        asked |= {urlsplit(url).netloc for url in urls if url}
    names = {address.split(":")[0] for address in asked} - {"127.0.0.1"}
    assert names == {"api", "mlflow"}
    for name in names:
        assert names <= set(OURS[name]["environment"]["TXWATCH_ALLOWED_HOSTS"].split(","))


def test_the_environment_files_set_only_what_the_file_reads() -> None:
    for name in ("deploy/docker/demo.env", "deploy/docker/localstack.env"):
        variables = compose.read_env_file(name)
        profile = variables.pop("COMPOSE_PROFILES")
        assert any(service.get("profiles") == [profile] for service in SERVICES.values())
        assert set(variables) <= compose.variables_of_file()


def test_the_demo_leads_everything_to_its_own_services() -> None:
    demo = compose.load(compose.read_env_file("deploy/docker/demo.env"))["services"]
    stated = demo["code"]["environment"]
    feed, telegram = (demo[name]["command"][demo[name]["command"].index("--port") + 1] for name in ("feed", "telegram"))
    assert stated["TXWATCH_STREAM_URL"] == f"ws://feed:{feed}/inv"
    assert stated["TXWATCH_REST_URL"] == f"http://feed:{feed}"
    assert stated["TELEGRAM_API_URL"] == f"http://telegram:{telegram}"
    assert (stated["TELEGRAM_BOT_TOKEN"], stated["TELEGRAM_CHAT_ID"]) == ("1:local", "1")


def test_make_secrets_makes_each_secret_once_and_closes_their_folder(tmp_path: Path) -> None:
    script = compose.PROJECT / "deploy/docker/make-secrets.sh"
    subprocess.run([script, tmp_path / "secrets"], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == {Path(secret["file"]).name for secret in LOADED["secrets"].values()}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert len(made["postgres_password"].strip()) == 48
    random = [value for value in made.values() if value.strip()]
    assert len(set(random)) == len(random)
    subprocess.run([script, tmp_path / "secrets"], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


def test_prometheus_asks_services_by_the_names_that_they_have_here() -> None:
    configuration = yaml.safe_load((compose.PROJECT / "deploy/docker/prometheus.yml").read_text())
    targets = [target for job in configuration["scrape_configs"] for target in job["static_configs"][0]["targets"]]
    assert targets == [f"api:{UIS['api']}", f"127.0.0.1:{UIS['prometheus']}"]
    [alerted] = configuration["alerting"]["alertmanagers"]
    assert alerted["static_configs"] == [{"targets": [f"alertmanager:{UIS['alertmanager']}"]}]
    mounted = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert set(configuration["rule_files"]) <= set(mounted)


def test_alertmanager_reads_its_addresses_from_its_secrets() -> None:
    configuration = yaml.safe_load((compose.PROJECT / "deploy/monitoring/alertmanager.yml").read_text())
    files = [hook["url_file"] for receiver in configuration["receivers"] for hook in receiver["webhook_configs"]]
    assert {Path(file).name for file in files} == set(SERVICES["alertmanager"]["secrets"])
    named = {receiver["name"] for receiver in configuration["receivers"]}
    assert {configuration["route"]["receiver"], *(one["receiver"] for one in configuration["route"]["routes"])} == named
    rules = (compose.PROJECT / "deploy/monitoring/rules.yml").read_text()
    for name in re.findall(r"Txwatch\w+", (compose.PROJECT / "deploy/monitoring/alertmanager.yml").read_text()):
        assert f"alert: {name}\n" in rules


def test_prometheus_otherwise_does_what_it_does_without_docker() -> None:
    without = compose.PROJECT / "deploy/monitoring/prometheus.yml"
    if not without.exists():
        pytest.skip("this build has no deploy/monitoring")
    here, there = (
        yaml.safe_load(file.read_text()) for file in (compose.PROJECT / "deploy/docker/prometheus.yml", without)
    )
    assert here["global"] == there["global"]
    assert [job["job_name"] for job in here["scrape_configs"]] == [job["job_name"] for job in there["scrape_configs"]]


def test_grafana_is_told_what_its_provisioning_reads() -> None:
    folder = compose.PROJECT / "deploy/monitoring/grafana/provisioning"
    if not folder.exists():
        pytest.skip("this build has no deploy/monitoring")
    read = {name for file in folder.rglob("*.yml") for name in re.findall(r"\$(\w+)", file.read_text())}
    assert read <= set(SERVICES["grafana"]["environment"])


def test_mlflow_bounds_requests_like_our_own_servers() -> None:
    command = SERVICES["mlflow"]["command"]
    # Its uvicorn is chosen before the guard is imported, which chooses it for the others.
    option, chosen = command[command.index("--uvicorn-opts") + 1].split()
    assert option == "--http"
    assert import_from_string(chosen) is BoundedH11
