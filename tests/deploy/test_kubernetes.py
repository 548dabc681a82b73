"""The manifests for Kubernetes hold together and pass the schemas of its API."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
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
from service_runtime.http_server import HEALTH
from service_runtime.settings import ProgramSettings
from web_demo.settings import DemoSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VARIANTS = ("edge", "qdrant")
CLASSES: dict[str, type[ProgramSettings]] = {
    "embedder": EmbedderSettings,
    "combiner": CombinerSettings,
    "search": SearchSettings,
    "http": GatewaySettings,
    "demo": DemoSettings,
}
SERVICES = {
    name: module.DESCRIPTOR.services_by_name[service].full_name
    for name, module, service in (
        ("embedder", embedder_pb2, "EmbedderService"),
        ("combiner", combiner_pb2, "CombinerService"),
        ("search", search_pb2, "SearchService"),
    )
}


def documents(folder: str) -> list[dict[str, Any]]:
    """Resources of a folder, without its kustomization."""
    files = sorted((FOLDER / folder).glob("*.yaml"))
    return [
        document
        for file in files
        if file.name != "kustomization.yaml"
        for document in yaml.safe_load_all(file.read_text())
    ]


def configurations(folder: str) -> list[dict[str, Any]]:
    """ConfigMaps that a folder's kustomization makes, one for each service."""
    kustomization = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())
    made: list[dict[str, Any]] = kustomization["configMapGenerator"]
    return made


def workloads(variant: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents("base") + documents(variant):
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document["metadata"]["name"], document["spec"]


@cache
def validate() -> Any:
    module = pytest.importorskip(
        "kubernetes_validate", reason='kubernetes-validate is absent: pip install -e ".[kubernetes]"'
    )
    return lambda document: module.validate(document, module.latest_version(), strict=True)


@pytest.mark.parametrize("folder", ["base", *VARIANTS])
def test_every_resource_passes_the_schema_of_its_kind(folder: str) -> None:
    for document in documents(folder):
        validate()(document)


@pytest.mark.clients
@pytest.mark.service
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_kustomize_makes_passes_the_schemas(variant: str) -> None:
    check = validate()
    run = subprocess.run(
        [ROOT / "scripts" / "kustomize", "build", FOLDER / variant],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode == 127:
        pytest.skip(run.stderr.strip().splitlines()[-1])
    assert run.returncode == 0, run.stderr
    made = list(yaml.safe_load_all(run.stdout))
    for document in made:
        check(document)
    maps = {each["metadata"]["name"] for each in made if each["kind"] == "ConfigMap"}
    assert {name.rpartition("-")[0] for name in maps} == set(CLASSES)
    named = set(re.findall(r"configMapRef:\s+name: (\S+)", run.stdout))
    assert named == maps  # each pod has the one that its settings are in


@pytest.mark.parametrize("folder", ["base", *VARIANTS])
def test_every_variable_is_a_setting(folder: str) -> None:
    for generated in configurations(folder):
        settings = CLASSES[generated["name"]]
        prefix = str(settings.model_config["env_prefix"])
        names = {f"{prefix}{name.upper()}" for name in settings.model_fields}
        assert {literal.partition("=")[0] for literal in generated["literals"]} <= names


@pytest.mark.parametrize("variant", VARIANTS)
def test_probes_ask_what_the_services_answer(variant: str) -> None:
    for name, spec in workloads(variant):
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        if name == "qdrant":
            continue
        settings = CLASSES[name].model_fields
        assert container["ports"][0]["containerPort"] == settings["port"].default
        if name in SERVICES:
            for kind in ("startupProbe", "readinessProbe"):
                assert container[kind]["grpc"] == {
                    "port": settings["port"].default,
                    "service": SERVICES[name],
                }
            assert container["livenessProbe"]["grpc"] == {"port": settings["port"].default}
        linger = linger_seconds(name)
        assert pod["terminationGracePeriodSeconds"] > linger + settings["shutdown_grace_seconds"].default
        if name not in SERVICES:
            # Nobody who calls these watches their health: they take requests until the probe has failed.
            assert container["readinessProbe"]["httpGet"]["path"] == HEALTH
            probe = container["readinessProbe"]
            assert linger > probe["periodSeconds"] * probe["failureThreshold"]


def linger_seconds(name: str) -> float:
    """Time in which a pod that ends still takes what is new: of its ConfigMap, else the default."""
    variable = f"{CLASSES[name].model_config['env_prefix']}SHUTDOWN_LINGER_SECONDS"
    for folder in ("base", *VARIANTS):
        for generated in configurations(folder):
            if generated["name"] == name:
                given = dict(literal.split("=", 1) for literal in generated["literals"])
                if variable in given:
                    return float(given[variable])
    default: float = CLASSES[name].model_fields["shutdown_linger_seconds"].default
    return default


@pytest.mark.parametrize("variant", VARIANTS)
def test_services_of_grpc_are_headless_and_those_of_http_are_not(variant: str) -> None:
    for document in documents("base") + documents(variant):
        name = document["metadata"]["name"]
        if document["kind"] == "Service" and name in CLASSES:
            assert (document["spec"].get("clusterIP") == "None") is (name in SERVICES), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_selects_pods_selects_some(variant: str) -> None:
    pods = {name: spec["template"]["metadata"]["labels"] for name, spec in workloads(variant)}
    replicas = {name: spec["replicas"] for name, spec in workloads(variant)}
    made = documents("base") + documents(variant)
    for document in made:
        name, spec = document["metadata"]["name"], document["spec"]
        match document["kind"]:
            case "Service":
                assert spec["selector"] == pods[name]
            case "PodDisruptionBudget":
                assert spec["selector"]["matchLabels"] == pods[name]
                assert replicas[name] > spec["minAvailable"]  # else no node could be drained
            case "HorizontalPodAutoscaler":
                assert spec["scaleTargetRef"]["name"] in pods
                assert spec["minReplicas"] == replicas[name]
            case "NetworkPolicy":
                assert spec["podSelector"]["matchLabels"] == pods[name]
                port = spec["ingress"][0]["ports"][0]["port"]
                assert port in [
                    each["port"]
                    for service in made
                    if service["kind"] == "Service" and service["metadata"]["name"] == name
                    for each in service["spec"]["ports"]
                ]


def test_replicas_grow_by_metrics_that_the_services_have() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("*_service/**/metrics.py"))
    for variant in VARIANTS:
        for document in documents("base") + documents(variant):
            if document["kind"] == "HorizontalPodAutoscaler":
                for metric in document["spec"]["metrics"]:
                    if metric["type"] == "Pods":
                        assert f'"{metric["pods"]["metric"]["name"]}"' in sources


def test_one_process_writes_an_embedded_store() -> None:
    (search,) = [spec for name, spec in workloads("edge") if name == "search"]
    assert search["replicas"] == 1
    assert search["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_images_are_those_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))
    for variant in VARIANTS:
        for name, spec in workloads(variant):
            image = spec["template"]["spec"]["containers"][0]["image"]
            assert name == "qdrant" or image.removeprefix("cir-") in targets
