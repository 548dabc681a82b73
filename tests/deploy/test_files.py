"""The deployment's files hold together, as far as that can be seen without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from cir.combiner.v1 import combiner_pb2
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import search_pb2
from combiner_service.settings import CombinerSettings
from embedder_service.settings import EmbedderSettings
from http_gateway.settings import GatewaySettings
from search_service.settings import SearchSettings
from service_runtime.settings import ProgramSettings, ServiceSettings
from web_demo.settings import DemoSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.glob("docker-compose*.yml"))
OURS = ("embedder", "combiner", "search", "demo", "http", "indexer")
CLASSES: dict[str, type[ProgramSettings]] = {
    "CIR_DEMO_": DemoSettings,
    "CIR_EMBEDDER_": EmbedderSettings,
    "CIR_HTTP_": GatewaySettings,
    "CIR_COMBINER_": CombinerSettings,
    "CIR_SEARCH_": SearchSettings,
}
# What `cir` reads itself, in a service's container or under its prefix.
CLIENT = {f"CIR_{service}{name}_FILE" for service in ("", "EMBEDDER_") for name in ("CA", "CERT", "KEY")}


def read(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return document


BASE = read(DEPLOY / "docker-compose.yml")["services"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variable_of_a_service_is_a_setting_of_it(path: Path) -> None:
    for service, parts in read(path)["services"].items():
        for name in parts.get("environment", {}):
            if not name.startswith("CIR_") or name in CLIENT:
                continue
            prefix = f"CIR_{service.upper()}_"
            if prefix in CLASSES:
                assert name.startswith(prefix), (service, name)
                assert name.removeprefix(prefix).lower() in CLASSES[prefix].model_fields, name


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_little(name: str) -> None:
    service = BASE[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    settings = ServiceSettings.model_fields
    given = service.get("environment", {}).get(f"CIR_{name.upper()}_SHUTDOWN_LINGER_SECONDS")
    # ${NAME:-default}
    linger = float(given[:-1].rpartition(":-")[2]) if given else settings["shutdown_linger_seconds"].default
    drain = linger + settings["shutdown_grace_seconds"].default
    if name == "http":  # replaced replica by replica behind a balancer that asks /healthz
        assert linger >= 10
    assert int(service["stop_grace_period"].removesuffix("s")) > drain


def test_only_search_and_dashboards_are_published_and_only_on_loopback() -> None:
    published = {
        service: parts["ports"]
        for path in FILES
        for service, parts in read(path)["services"].items()
        if "ports" in parts
    }
    assert published.keys() <= {"search", "demo", "http", "grafana"}
    assert all(port.startswith("${CIR_BIND:-127.0.0.1}:") for port in chain(*published.values()))
    networks = read(DEPLOY / "docker-compose.yml")["networks"]
    assert networks["back"] == {"internal": True}
    assert "front" not in chain(
        *(BASE[name]["networks"] for name in ("qdrant", "embedder", "combiner", "indexer"))
    )


def test_what_is_published_is_where_its_container_listens() -> None:
    for prefix, settings in CLASSES.items():
        service = BASE[prefix.split("_")[1].lower()]
        for port in service.get("ports", ()):
            assert int(port.rpartition(":")[2]) == settings.model_fields["port"].default


def test_each_service_with_tls_has_a_certificate_for_trying_out() -> None:
    made = re.search(r"for name in (.*); do", (DEPLOY / "dev-ca.sh").read_text())
    assert made is not None
    for parts in read(DEPLOY / "docker-compose.tls.yml")["services"].values():
        for value in parts["environment"].values():
            name = re.fullmatch(r"/tls/(\w+)\.(?:crt|key)", value)
            assert name is None or name[1] in {"ca", *made[1].split()}, value


def test_the_example_has_every_variable_with_its_default() -> None:
    example = dict(
        line.split("=", 1)
        for line in (DEPLOY / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    used: dict[str, set[str]] = {}
    for path in FILES:
        for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", path.read_text()):
            used.setdefault(name, set()).add(default)
    assert example.keys() == used.keys()
    for name, defaults in used.items():
        if name != "CIR_STORE":  # the store depends on the overlay
            assert defaults == {example[name]}, name


def test_health_checks_ask_each_service_under_its_name_and_port() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    commands = re.findall(r'CMD (\["python3", "-m", "service_runtime\.health_check".*\])', dockerfile)
    checks = [json.loads(command)[3:] for command in commands]
    assert {(name, prefix) for name, prefix, _ in checks} == {
        (search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name, "CIR_SEARCH_"),
        (embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"].full_name, "CIR_EMBEDDER_"),
        (combiner_pb2.DESCRIPTOR.services_by_name["CombinerService"].full_name, "CIR_COMBINER_"),
        ("http", "CIR_DEMO_"),
        ("http", "CIR_HTTP_"),
    }
    for _, prefix, port in checks:
        assert CLASSES[prefix].model_config["env_prefix"] == prefix
        assert CLASSES[prefix].model_fields["port"].default == int(port)


def test_dashboard_and_alerts_ask_for_metrics_that_exist() -> None:
    code = "".join(
        path.read_text()
        for house in ("service_runtime", "embedder_service", "combiner_service", "search_service")
        for path in (ROOT / house).rglob("*.py")
    )
    known = set(re.findall(r'"(cir_[a-z_]+)"', code))
    dashboard = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
    alerts = read(DEPLOY / "monitoring" / "alerts.yml")
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    assert len(asked) > 20
    for expression in asked:
        for name in re.findall(r"cir_[a-z_]+", expression):
            assert re.sub(r"_(total|bucket|sum|count)$", "", name) in known, name


def test_every_alert_is_explained() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for group in read(DEPLOY / "monitoring" / "alerts.yml")["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in text


OVERLAYS = [
    [],
    ["embedded"],
    ["gpu"],
    ["cluster"],
    ["tls"],
    ["monitoring"],
    ["embedded", "tls", "monitoring"],
]


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.service
@pytest.mark.parametrize("overlays", OVERLAYS, ids=lambda overlays: "+".join(overlays) or "base")
def test_compose_takes_the_files(overlays: list[str]) -> None:
    names = ["docker-compose.yml", *(f"docker-compose.{name}.yml" for name in overlays)]
    command = ["docker-compose", *chain(*(("-f", name) for name in names)), "config"]
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services["qdrant"].get("profiles", []) == (["server"] if "embedded" in overlays else [])


def test_the_smoke_test_reaches_a_search_service_with_tls() -> None:
    search = read(DEPLOY / "docker-compose.tls.yml")["services"]["search"]["environment"]
    assert search["CIR_CA_FILE"] == search["CIR_SEARCH_TLS_CLIENT_CA"]
    assert search["CIR_CERT_FILE"] == search["CIR_SEARCH_TLS_CERTIFICATE"]
    assert search["CIR_KEY_FILE"] == search["CIR_SEARCH_TLS_KEY"]


@pytest.mark.service
@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, ""),
        ({"CIR_SEARCH_API_KEYS": "shop:read:a:b,web:write:cd"}, "a:b"),
        ({"CIR_API_KEY": "own"}, "own"),
        ({"CIR_SEARCH_API_KEYS": "shop:read:ab", "CIR_API_KEY": "own"}, "own"),
    ],
)
def test_the_smoke_test_has_a_key_where_the_search_service_asks_for_one(
    given: dict[str, str], key: str, tmp_path: Path
) -> None:
    # Stands for docker-compose: what follows "search" runs in its container, with the variables of -e.
    compose = tmp_path / "compose"
    compose.write_text(
        "#!/bin/sh\n"
        'case " $* " in *" -e CIR_API_KEY "*) ;; *) unset CIR_API_KEY ;; esac\n'
        'while [ "$1" != search ]; do shift; done; shift; PATH="$STUBS:$PATH"; exec "$@"\n'
    )
    program = tmp_path / "python3"
    program.write_text('#!/bin/sh\nprintf "%s|" "$CIR_API_KEY" "$@"\n')
    compose.chmod(0o755)
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CIR_", "MAKE"))}
    done = subprocess.run(
        ["make", "-s", "smoke", f"COMPOSE={compose}", "OVERLAYS=tls", "CATALOG=toys"],
        cwd=ROOT,
        env={**kept, **given, "STUBS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    query = "-m|cir_cli|search|toys|--server|localhost:50050|--text|a red dress|--then|in blue|"
    assert done.stdout == f"{key}|{query}"
