"""What is deployed, compared with the code: compose.yaml, the Procfile, the Dockerfile and the Caddyfile can't rot."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from celery.bin.base import CLIContext
from celery.bin.celery import celery
from gunicorn import util

from ingest_web.app import create_app
from shared.broker import make_celery
from shared.config import Settings
from tests.stack import CADDY, CADDYFILE, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["web", "worker", "courier"]

#: Each instruction with its words; lines that a backslash joins are one.
DOCKERFILE = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", (ROOT / "deploy" / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]

GUNICORN_OPTIONS = ["--check-config"]  # load the configuration and the app, then leave
CELERY_OPTIONS = ["--help"]  # the app has been loaded by then

GUNICORN_CONF = str(ROOT / "ingest_web" / "gunicorn_conf.py")

LOCAL_URL = re.compile(r"http://127\.0\.0\.1:(\d+)(/\w+)")


def instructions(name: str) -> list[str]:
    return [rest for instruction, rest in DOCKERFILE if instruction == name]


def image_variables() -> dict[str, str]:
    return dict(word.split("=", 1) for rest in instructions("ENV") for word in shlex.split(rest))


def copied() -> dict[str, str]:
    return dict(rest.split() for rest in instructions("COPY"))


def variables(service: str) -> dict[str, str]:
    """The environment of a container, with what Compose fills in."""
    own = {
        name: Template(value).substitute(COMPOSE_PROJECT_NAME=COMPOSE["name"])
        for name, value in SERVICES[service]["environment"].items()
    }
    return {**image_variables(), **own} if service in OURS else own


def settings_of(service: str) -> Settings:
    return Settings.from_environment(variables(service))


def procfile() -> dict[str, list[str]]:
    lines = [line for line in (ROOT / "Procfile").read_text().splitlines() if not line.startswith("#")]
    return {name: shlex.split(command) for name, command in (line.split(": ", 1) for line in lines)}


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def health_check(service: str) -> str:
    return " ".join(SERVICES[service]["healthcheck"]["test"])


def port_of_web() -> str:
    command = SERVICES["web"]["command"]
    return command[command.index("--bind") + 1].rpartition(":")[2]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """A folder that holds what the image holds of ours, and nothing else."""
    folder = tmp_path_factory.mktemp("image")
    for source, target in copied().items():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / target)
    return folder


@pytest.fixture(scope="module")
def caddy(tmp_path_factory) -> dict[str, Any]:
    """The Caddyfile as Caddy understands it with the variables of compose.yaml."""
    folder = tmp_path_factory.mktemp("caddy")
    environment = {**variables("balancer"), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    subprocess.run([CADDY, "validate", "--config", CADDYFILE], env=environment, check=True, capture_output=True)
    command = [CADDY, "adapt", "--config", CADDYFILE]
    adapted = subprocess.run(command, env=environment, check=True, capture_output=True)
    return json.loads(adapted.stdout)["apps"]["http"]


@pytest.fixture(scope="module")
def proxy(caddy) -> dict[str, Any]:
    """The part of it that asks the nodes."""
    (handler,) = caddy["servers"]["srv0"]["routes"][0]["handle"]
    return handler


def run_in(image: Path, service: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a service's command as the image would: none of our packages can be imported but the image's."""
    program, *words = SERVICES[service]["command"]
    here = f"import runpy, sys; sys.path.remove({str(ROOT)!r}); sys.argv[0] = {program!r}; "
    here += f"runpy.run_module({program!r}, run_name='__main__', alter_sys=True)"
    environment = {"PATH": os.environ["PATH"], **variables(service), "PYTHONPATH": str(image)}
    command = [sys.executable, "-c", here, *words, *options]
    return subprocess.run(command, cwd=image, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("service", OURS)
def test_every_variable_is_a_setting_with_a_value_that_it_may_have(service):
    """A container that refuses its own settings would be found at the first start."""
    assert settings_of(service).redis_url == "redis://redis:6379/0"


def test_web_and_workers_use_the_same_places():
    """What one writes, the other finds."""
    assert settings_of("web") == settings_of("worker") == settings_of("courier")


@pytest.mark.parametrize("service", OURS)
def test_everything_that_must_last_is_in_the_volume(service):
    """Storage and database survive their containers, and every container sees the same."""
    volumes = dict(volume.split(":") for volume in SERVICES[service]["volumes"])
    settings = settings_of(service)
    kept_at = volumes["data"]
    assert settings.storage_url.startswith(f"{kept_at}/")
    assert settings.database_url.startswith(f"sqlite:///{kept_at}/")
    assert str(settings.var) == kept_at
    assert f"install -d -o ingest -g ingest {kept_at}" in " ".join(instructions("RUN"))


@pytest.mark.parametrize("service", OURS)
def test_the_procfile_and_compose_run_the_same_command(service):
    """One way to start a process, whoever starts it."""
    words = procfile()[service]
    assignments = [word for word in words if re.match(r"[A-Z_]+=", word)]
    assert words[len(assignments) :] == SERVICES[service]["command"]
    assert dict(word.split("=", 1) for word in assignments).items() <= variables(service).items()


def test_the_procfile_has_all_our_processes():
    """None is forgotten."""
    assert list(procfile()) == OURS


def test_the_image_has_all_that_the_web_command_needs(image):
    """gunicorn knows its options, and finds its configuration and the app in what the Dockerfile copies."""
    checked = run_in(image, "web", *GUNICORN_OPTIONS)
    assert checked.returncode == 0, checked.stderr


def test_the_image_has_all_that_the_worker_command_needs(image):
    """Celery finds its app in what the Dockerfile copies."""
    checked = run_in(image, "worker", *CELERY_OPTIONS)
    assert checked.returncode == 0, checked.stderr


def test_the_image_has_all_that_the_courier_command_needs(image):
    """It finds its module in what the Dockerfile copies; none runs, so it says that none is alive."""
    assert SERVICES["courier"]["healthcheck"]["test"][1:] == [*SERVICES["courier"]["command"], "--alive"]
    temporary = image / "tmp"
    temporary.mkdir()
    here = f"import runpy, sys; sys.path.remove({str(ROOT)!r}); "
    here += "runpy.run_module('ingest_worker.courier', run_name='__main__', alter_sys=True)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(image), "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", here, "--alive"]
    checked = subprocess.run(
        command, cwd=image, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stderr) == (1, "")


def test_keys_are_made_in_the_image(image):
    """As compose.yaml says: with nothing but what the Dockerfile copies, and the variables of the container."""
    assert "docker compose exec web python -m ingest_client keys create" in (ROOT / "compose.yaml").read_text()
    here = f"import runpy, sys; sys.path.remove({str(ROOT)!r}); "
    here += "runpy.run_module('ingest_client', run_name='__main__', alter_sys=True)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(image), "INGEST_VAR": str(image / "var")}
    command = [sys.executable, "-c", here, "keys", "create"]
    made = subprocess.run(command, cwd=image, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert made.stdout.startswith("ingest_")


def test_gunicorn_finds_the_class_of_its_workers():
    """The configuration names one that is there."""
    configured = runpy.run_path(GUNICORN_CONF)
    assert util.load_class(configured["worker_class"]).__name__ == "RelayWorker"


@pytest.mark.parametrize(
    "words",
    [SERVICES["worker"]["command"], shlex.split(SERVICES["worker"]["healthcheck"]["test"][1])],
    ids=["command", "health check"],
)
def test_celery_knows_the_options_of_the_worker(words, settings):
    """Each option of the command and of the health check, with its value, is one of Celery's."""
    program, option, app, name, *rest = words
    assert (program, option, app) == ("celery", "-A", "ingest_worker.main")
    context = CLIContext(app=make_celery(settings), no_color=True, workdir="")
    assert celery.commands[name].make_context(name, rest, obj=context).params


def test_the_image_starts_the_web_when_told_nothing_else():
    """`docker run` alone gives a web node, started as in compose.yaml."""
    (command,) = instructions("CMD")
    assert json.loads(command) == SERVICES["web"]["command"]


@pytest.mark.parametrize("source", copied())
def test_what_the_dockerfile_copies_is_there_for_the_builder(source):
    """It exists, and .dockerignore lets it through."""
    assert (ROOT / source).exists()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_runs_as_nobody_in_particular_from_locked_packages():
    """Every package has the hash that the lock names; no process of ours is root."""
    assert "--require-hashes -r /tmp/run.txt" in " ".join(instructions("RUN"))
    assert copied()["requirements/run.txt"] == "/tmp/run.txt"
    assert instructions("USER") == ["ingest"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_watched_and_started_again(service):
    """It says whether it is well, returns when it falls, and is given time to stop."""
    assert SERVICES[service]["healthcheck"]["test"]
    assert SERVICES[service]["restart"] == "unless-stopped"
    assert seconds(SERVICES[service]["stop_grace_period"]) >= 10


@pytest.mark.parametrize("service", ["web", "balancer"])
def test_a_health_check_asks_for_a_route_that_is_there(service, settings):
    """At a port that the service listens on."""
    (asked,) = LOCAL_URL.findall(health_check(service))
    assert asked == (port_of_web(), "/readyz")
    assert asked[1] in {rule.rule for rule in create_app(settings).url_map.iter_rules()}


def test_the_balancer_asks_every_node_whether_it_is_ready(proxy, settings):
    """At the same route."""
    assert proxy["health_checks"]["active"]["uri"] == "/readyz"
    assert "/readyz" in {rule.rule for rule in create_app(settings).url_map.iter_rules()}


def test_the_balancer_knows_every_replica(proxy):
    """By the names that Compose gives to containers, at the port where the web listens."""
    names = [f"{COMPOSE['name']}-web-{n}:{port_of_web()}" for n in range(1, SERVICES["web"]["deploy"]["replicas"] + 1)]
    assert [upstream["dial"] for upstream in proxy["upstreams"]] == names


def test_the_balancer_holds_no_event_back(proxy):
    """It flushes after every write, and compresses nothing."""
    assert proxy["flush_interval"] == -1
    assert "encode" not in CADDYFILE.read_text()


def test_the_balancer_listens_where_compose_expects_it(caddy):
    """The published port leads to it."""
    (published,) = SERVICES["balancer"]["ports"]
    (listens,) = caddy["servers"]["srv0"]["listen"]
    assert published.rpartition(":")[2] == listens.rpartition(":")[2]


def test_the_routes_of_streams_that_the_balancer_knows_are_those_of_the_app(caddy, settings):
    """A stream must never be answered with 503, so the balancer has to know one when it sees it."""
    known = set(re.findall(r'"(/status[^"]*)"', json.dumps(caddy["servers"]["srv0"]["errors"])))
    streams = [rule for rule in create_app(settings).url_map.iter_rules() if rule.endpoint.startswith("streams.")]
    assert known == {re.sub(r"<\w+>", "*", rule.rule) for rule in streams}


def test_a_web_node_has_time_to_drain(monkeypatch):
    """Docker waits longer than gunicorn, which waits longer than the drain window."""
    for name, value in variables("web").items():
        monkeypatch.setenv(name, value)
    graceful_timeout = runpy.run_path(GUNICORN_CONF)["graceful_timeout"]
    assert seconds(SERVICES["web"]["stop_grace_period"]) > graceful_timeout > settings_of("web").drain_seconds


def test_a_worker_has_time_to_hand_back_its_work():
    """Docker waits longer than it takes to read a page."""
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= 15


def test_the_balancer_has_time_to_let_go_of_its_streams(caddy):
    """Docker waits longer than Caddy."""
    assert seconds(SERVICES["balancer"]["stop_grace_period"]) > caddy["grace_period"] / 1e9


def test_redis_keeps_what_it_is_given(client):
    """On disk, and whatever the memory; every option is one that the server knows."""
    program, *words = SERVICES["redis"]["command"]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert program == "valkey-server"
    for name in options:
        assert client.config_get(name.removeprefix("--")), name
    assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "noeviction")


def test_volumes_are_declared():
    """Every named volume that is mounted, and no other."""
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {name for name in mounted if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / name).exists() for name in mounted if name.startswith("."))


@pytest.mark.parametrize("service", OURS)
def test_the_page_for_operators_names_the_commands_in_use(service):
    """They can be copied from it."""
    assert f"`{shlex.join(SERVICES[service]['command'])}`" in (ROOT / "docs" / "operations.md").read_text()
