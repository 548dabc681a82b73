"""The manifests for Kubernetes hold together and pass the schemas of its API."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cir.combiner.v1 import combiner_pb2
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import search_pb2
from cir_cli.main import app
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


@pytest.mark.parametrize("folder", ["base", *VARIANTS, "index"])
def test_every_resource_passes_the_schema_of_its_kind(folder: str) -> None:
    for document in documents(folder):
        validate()(document)


def kustomized(folder: Path) -> str:
    """Return what kustomize makes of a folder, after comparing it with the schemas."""
    check = validate()
    run = subprocess.run(
        [ROOT / "scripts" / "kustomize", "build", folder], capture_output=True, text=True, check=False
    )
    if run.returncode == 127:
        pytest.skip(run.stderr.strip().splitlines()[-1])
    assert run.returncode == 0, run.stderr
    for document in yaml.safe_load_all(run.stdout):
        check(document)
    return run.stdout


@pytest.mark.clients
@pytest.mark.service
def test_the_kustomizations_of_the_document_make_what_it_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    own, index = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(own)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "kustomization.yaml").write_text(index)
    namespaces = set()
    for folder in (tmp_path, tmp_path / "index"):
        made = kustomized(folder)
        assert not re.findall(r"image: cir-", made)
        namespaces |= {each["metadata"]["namespace"] for each in yaml.safe_load_all(made)}
    (namespace,) = namespaces
    assert f"kubectl create namespace {namespace}\n" in re.sub(r" +#.*", "", text)
    for line in re.findall(r"^kubectl .*", text, re.MULTILINE):
        assert f"-n {namespace} " in line or "apply -k" in line or "create namespace" in line


@pytest.mark.clients
@pytest.mark.service
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_kustomize_makes_passes_the_schemas(variant: str) -> None:
    output = kustomized(FOLDER / variant)
    made = list(yaml.safe_load_all(output))
    maps = {each["metadata"]["name"] for each in made if each["kind"] == "ConfigMap"}
    assert {name.rpartition("-")[0] for name in maps} == set(CLASSES)
    named = set(re.findall(r"configMapRef:\s+name: (\S+)", output))
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


def calls(variant: str) -> Iterator[tuple[dict[str, str], str, int]]:
    """The labels of each pod that calls a service, the service's name and its port, by the settings."""
    pods = {name: spec["template"]["metadata"]["labels"] for name, spec in workloads(variant)}
    texts: list[tuple[dict[str, str], str]] = [
        (pods[generated["name"]], literal.partition("=")[2])
        for folder in ("base", variant)
        for generated in configurations(folder)
        for literal in generated["literals"]
    ]
    if variant == "qdrant":
        (job,) = [document for document in documents("index") if document["kind"] == "Job"]
        template = job["spec"]["template"]
        texts += [
            (template["metadata"]["labels"], each["value"])
            for each in template["spec"]["containers"][0]["env"]
        ]
    for labels, text in texts:
        for name, port in re.findall(r"(?:^|//)([a-z]+):(\d+)$", text):
            yield labels, name, int(port)


@pytest.mark.parametrize("variant", VARIANTS)
def test_who_calls_a_service_is_let_through_to_it(variant: str) -> None:
    made = documents("base") + documents(variant) + (documents("index") if variant == "qdrant" else [])
    policies = [each["spec"] for each in made if each["kind"] == "NetworkPolicy"]
    pods = {name: spec["template"]["metadata"]["labels"] for name, spec in workloads(variant)}
    found = list(calls(variant))
    assert {name for _, name, _ in found} == pods.keys() - {"http", "demo"}
    for labels, name, port in found:
        rules = [
            rule
            for policy in policies
            if policy["podSelector"]["matchLabels"].items() <= pods[name].items()
            for rule in policy["ingress"]
            if {"port": port} in rule["ports"]
        ]
        assert any(
            source["podSelector"].get("matchLabels", {}).items() <= labels.items()
            for rule in rules
            for source in rule["from"]
            if "podSelector" in source
        ), (labels, name)


def test_the_job_indexes_with_variables_of_the_command_line() -> None:
    job, claim = documents("index")[:2]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = get_command(app).commands["index"]  # type: ignore[attr-defined]
    variables = {parameter.envvar for parameter in command.params}
    assert {each["name"] for each in container["env"]} <= variables
    assert container["args"][0] == command.name
    assert re.search(
        rf"AS {container['image'].removeprefix('cir-')}$", (ROOT / "deploy/Dockerfile").read_text(), re.M
    )
    volumes = {each["name"]: each for each in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["index-data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert mounted[container["args"][2]] == "pictures"
    given = {each["name"]: each["value"] for each in container["env"]}
    assert mounted[given["CIR_DATA"]] == mounted[given["CIR_REJECTS"]] == "index-data"


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
