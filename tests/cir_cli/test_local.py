"""Services on one machine: their plan, their readiness, and the file that says where they are."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NoReturn, get_args

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.main import get_command

from cir.address import Address, Host, parse_address
from cir.channel import TlsFiles
from cir.errors import InvalidArgument
from cir.limits import DEFAULT_COMBINER
from cir_cli.errors import Failure
from cir_cli.local import up_file
from cir_cli.local.plan import (
    SHIPPED,
    SHIPPED_COMBINER,
    SHIPPED_MODEL,
    ServiceSpec,
    UpOptions,
    listeners,
    plan,
)
from cir_cli.local.processes import Services
from cir_cli.local.readiness import check_free, free_ports, own_tls, resolve_ports, takes_calls
from cir_cli.local.up_file import UpFile
from cir_cli.local.variables import unused_variables
from cir_cli.main import app, run
from cir_cli.up import _InJson, _InWords, with_advice
from combiner_service.settings import CombinerSettings
from embedder_service.settings import EmbedderSettings
from http_gateway.settings import GatewaySettings
from search_service.settings import SearchSettings
from service_runtime.settings import ProgramSettings
from service_runtime.tls import TlsServerFiles
from tests.hosts import has_ipv6
from tests.service_runtime.certificates import Authority, Pair
from vector_store.open_store import embedded_folder
from web_demo.settings import DemoSettings

OPTIONS = UpOptions(Path("data"), "RN50", "random:3", "127.0.0.1", 5000, 5001, 5002)


CLASSES: dict[str, type[ProgramSettings]] = {
    "embedder": EmbedderSettings,
    "combiner": CombinerSettings,
    "search": SearchSettings,
    "web": DemoSettings,
    "http": GatewaySettings,
}


def test_every_variable_is_a_setting_of_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan writes names; the services' own classes have to read them."""
    loaded = {}
    options = replace(OPTIONS, checkpoints=Path("weights"), web_port=5003, http_port=5004)
    for spec in plan(options):
        for name, value in spec.environment.items():
            monkeypatch.setenv(name, value)
        prefix = str(CLASSES[spec.name].model_config["env_prefix"])
        fields = {name.removeprefix(prefix).lower() for name in spec.environment}
        assert fields <= CLASSES[spec.name].model_fields.keys()
        loaded[spec.name] = CLASSES[spec.name].load([])
        assert loaded[spec.name].address == spec.address
    embedder, combiner, search = loaded["embedder"], loaded["combiner"], loaded["search"]
    assert isinstance(embedder, EmbedderSettings)
    assert (embedder.architecture, embedder.pretrained) == ("RN50", "random:3")
    assert isinstance(combiner, CombinerSettings)
    assert combiner.checkpoint_dir == Path("weights").resolve()
    web = loaded["web"]
    assert isinstance(web, DemoSettings)
    assert web.search == search.address
    gateway = loaded["http"]
    assert isinstance(gateway, GatewaySettings)
    assert (gateway.search, gateway.embedder) == (search.address, embedder.address)
    assert isinstance(search, SearchSettings)
    assert (search.embedder, search.combiner) == (embedder.address, combiner.address)
    assert re.fullmatch(r"edge:///.*/data/store", search.store)


def test_the_shipped_combiner_goes_with_the_shipped_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings_of(options: UpOptions) -> tuple[CombinerSettings, SearchSettings]:
        with monkeypatch.context() as patch:
            for spec in plan(options):
                for name, value in spec.environment.items():
                    patch.setenv(name, value)
            return CombinerSettings.load([]), SearchSettings.load([])

    shipped = replace(OPTIONS, model=SHIPPED_MODEL, pretrained=SHIPPED)
    combiner, search = settings_of(shipped)
    assert any((folder / "garments.safetensors").is_file() for folder in combiner.checkpoint_dirs)
    assert combiner.default_combiner == search.default_combiner == SHIPPED_COMBINER
    for options, expected in (
        (OPTIONS, DEFAULT_COMBINER),
        (replace(shipped, default_combiner="sum"), "sum"),
        # Further ones change nothing of it.
        (replace(shipped, checkpoints=Path("own")), SHIPPED_COMBINER),
        (replace(OPTIONS, checkpoints=Path("own")), DEFAULT_COMBINER),
    ):
        combiner, search = settings_of(options)
        assert combiner.default_combiner == search.default_combiner == expected


def test_only_search_listens_on_other_interfaces() -> None:
    embedder, combiner, search = plan(replace(OPTIONS, host="0.0.0.0"))
    assert search.environment["CIR_SEARCH_HOST"] == "0.0.0.0"
    assert search.address == "127.0.0.1:5000"
    assert embedder.environment["CIR_EMBEDDER_HOST"] == "127.0.0.1"
    assert combiner.environment["CIR_COMBINER_HOST"] == "127.0.0.1"


def test_the_page_gets_no_folders_but_those_of_the_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    web = plan(replace(OPTIONS, web_port=5003))[-1]
    assert "/" not in web.environment.values()
    assert {"CIR_DEMO_PICTURE_ROOTS", "CIR_DEMO_KNOWN_QUERIES"}.isdisjoint(web.environment | web.defaults)
    monkeypatch.setenv("CIR_DEMO_PICTURE_ROOTS", '["/srv/pictures"]')
    monkeypatch.setenv("CIR_DEMO_KNOWN_QUERIES", '["/srv/triplets.jsonl"]')
    for name, value in web.environment.items():
        monkeypatch.setenv(name, value)
    settings = DemoSettings.load([])
    assert settings.picture_roots == [Path("/srv/pictures")]
    assert settings.known_queries == [Path("/srv/triplets.jsonl")]


def test_the_environment_gives_way_to_nothing_but_what_was_asked_for() -> None:
    specs = plan(replace(OPTIONS, web_port=5003))
    for spec in specs:
        prefix = str(CLASSES[spec.name].model_config["env_prefix"])
        names = {"LOG_FORMAT", "SHUTDOWN_GRACE_SECONDS", *(["DATA"] if spec.name == "web" else [])}
        assert spec.defaults.keys() == {f"{prefix}{name}" for name in names}
        assert spec.defaults.keys().isdisjoint(spec.environment)
    environment = {
        "CIR_SEARCH_STORE": "qdrant://elsewhere:6334",
        "CIR_SEARCH_PORT": "5000",
        "CIR_EMBEDDER_DTYPE": "int8",
        "CIR_SEARCH_LOG_FORMAT": "json",
        "CIR_DEMO_SEARCH": "",
    }
    assert list(unused_variables(specs, environment)) == ["CIR_SEARCH_STORE"]


def test_variables_that_no_service_reads_are_named_with_the_setting_that_was_meant() -> None:
    specs = plan(replace(OPTIONS, web_port=5003))
    meant = {
        "CIR_SEARCH_MAX_RESULT": ("search_service", "CIR_SEARCH_MAX_RESULTS"),
        "cir_embedder_dtpye": ("embedder_service", "CIR_EMBEDDER_DTYPE"),
        "CIR_COMBINER_CHECKPOINTS_DIR": ("combiner_service", "CIR_COMBINER_CHECKPOINT_DIR"),
        "CIR_DEMO_PICTURE_ROOT": ("web_demo", "CIR_DEMO_PICTURE_ROOTS"),
        "CIR_SEARCH_QQQQ": ("search_service", ""),
    }
    # Of others: what is read elsewhere, what has no value, a service that is not started.
    others = {
        "CIR_DATA": "/d",
        "CIR_SEARCH_MAX_RESULTTS": "",
        "CIR_HTTP_PROT": "1",
        "CIR_SEARCH_CONFIG": "/f",
    }
    unused = unused_variables(specs, others | dict.fromkeys(meant, "1"))
    assert unused.keys() == meant.keys()
    for name, (program, near) in meant.items():
        assert unused[name] == f"is no setting of {program}" + (f"; did you mean {near}?" if near else "")


def test_variables_of_the_command_line_are_no_misspelt_settings() -> None:
    def read(command: Any) -> Iterator[str]:
        for parameter in command.params:
            names = parameter.envvar or ()
            yield from [names] if isinstance(names, str) else names
        for inner in getattr(command, "commands", {}).values():
            yield from read(inner)

    names = set(read(get_command(app)))
    assert "CIR_EMBEDDER_CA_FILE" in names
    for settings in CLASSES.values():
        assert settings.unknown_variables(dict.fromkeys(names, "1")) == {}
        prefix = str(settings.model_config["env_prefix"])
        assert {f"{prefix}{name.upper()}" for name in settings.of_clients} <= names


@given(st.sampled_from(sorted(CLASSES)), st.data())
def test_a_setting_with_one_wrong_letter_is_told_from_every_other(name: str, data: st.DataObject) -> None:
    prefix = str(CLASSES[name].model_config["env_prefix"])
    known = {f"{prefix}{field.upper()}" for field in CLASSES[name].model_fields} | {f"{prefix}CONFIG"}
    right = data.draw(st.sampled_from(sorted(known)))
    place = data.draw(st.integers(len(prefix), len(right) - 1))
    wrong = right[:place] + data.draw(st.sampled_from(["", "Q", "QX"])) + right[place + 1 :]
    assume(len(wrong) > len(prefix) and wrong not in known)
    unknown = CLASSES[name].unknown_variables(dict.fromkeys([wrong, *known], "1"))
    assert unknown.keys() == {wrong}
    if len(right) - len(prefix) > 4:
        assert unknown[wrong]


@pytest.mark.parametrize(
    ("host", "search", "web"),
    [
        ("127.0.0.1", "127.0.0.1:5000", "127.0.0.1:5003"),
        ("0.0.0.0", "127.0.0.1:5000", "127.0.0.1:5003"),
        ("LOCALHOST", "localhost:5000", "localhost:5003"),
        ("::1", "[::1]:5000", "[::1]:5003"),
        ("[::1]", "[::1]:5000", "[::1]:5003"),
        ("::", "localhost:5000", "localhost:5003"),
        ("[::]", "localhost:5000", "localhost:5003"),
        ("unix:///run/cir.sock", "unix:/run/cir.sock", "127.0.0.1:5003"),
    ],
)
def test_search_and_web_are_reached_in_every_spelling_of_the_host(
    host: str, search: str, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, host=host, web_port=5003)
    specs = plan(options)
    assert [spec.address for spec in specs] == ["127.0.0.1:5001", "127.0.0.1:5002", search, web]
    for spec in specs:
        for name, value in spec.environment.items():
            monkeypatch.setenv(name, value)
    demo = DemoSettings.load([])
    assert demo.search == search
    assert (SearchSettings.load([]).listener, demo.listener) == listeners(options)[2:]


@pytest.mark.parametrize("host", ["http://localhost", "127.0.0.1:80", "", "256.0.0.1", "unix:"])
def test_what_is_no_host_starts_nothing(host: str) -> None:
    with pytest.raises(InvalidArgument):
        plan(replace(OPTIONS, host=host))


@pytest.mark.service
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_page_is_asked_without_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    class Page(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

    class PageServer(HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with PageServer((host, 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = str(Address(Host(host), server.server_address[1]))
        spec = ServiceSpec("web", "web_demo", address, "", {})
        assert takes_calls(spec, None) is True
        server.shutdown()
        thread.join()
    assert takes_calls(spec, None) is False


def test_only_search_asks_for_keys() -> None:
    specs = plan(replace(OPTIONS, api_keys_file=Path("keys.toml")))
    assert [spec.environment.get(f"CIR_{spec.name.upper()}_API_KEYS_FILE") for spec in specs] == [
        None,
        None,
        str(Path("keys.toml").resolve()),
    ]


@pytest.mark.parametrize("name", ["spring #1", "spring #2", "what?", "50%20off", "50% off", "Frühling ü"])
def test_the_store_lies_in_the_data_directory(tmp_path: Path, name: str) -> None:
    search = plan(replace(OPTIONS, data=tmp_path / name))[2]
    assert embedded_folder(search.environment["CIR_SEARCH_STORE"]) == tmp_path / name / "store"


@pytest.mark.service
def test_ports_follow_the_first_unless_given() -> None:
    assert resolve_ports(50050, None, None) == (50050, 50051, 50052)
    assert resolve_ports(50050, 7000, None) == (50050, 7000, 50052)
    assert len({*resolve_ports(0, None, None), *resolve_ports(50050, 0, 0)}) == 6
    with pytest.raises(Failure, match="need three ports, not 50050, 50050, 50052"):
        resolve_ports(50050, 50050, None)


@pytest.mark.service
def test_a_port_in_use_is_named() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(Failure, match=f"cannot listen on {address}: Address already in use"):
            check_free([parse_address(address)])
    check_free([parse_address(f"127.0.0.1:{port}") for port in free_ports(2)])


@pytest.mark.service
def test_the_demo_looks_at_its_ports_before_it_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        for option in ("--port", "--web-port"):
            command = ["demo", "--data", str(tmp_path / "demo"), "--port", "0", "--web-port", "0"]
            assert run([*command, option, str(listening.getsockname()[1])]) == 1
            assert "Address already in use" in capsys.readouterr().err
    assert not (tmp_path / "demo" / "catalog").exists()


NAME = "cir.search.v1.SearchService"
Start = Callable[[Pair, Path | None], ServiceSpec]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """A server with a certificate, and the settings of the search service that say the same."""
    servicer = health.HealthServicer()
    servicer.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    def run(pair: Pair, client_ca: Path | None) -> ServiceSpec:
        for name, path in (("CERTIFICATE", pair.certificate), ("KEY", pair.key), ("CLIENT_CA", client_ca)):
            if path is not None:
                monkeypatch.setenv(f"CIR_SEARCH_TLS_{name}", str(path))
        files = TlsServerFiles(pair.certificate, pair.key, client_ca)
        credentials = grpc.dynamic_ssl_server_credentials(
            files.read(),
            lambda: None,  # type: ignore[arg-type,return-value]  # None is documented
            client_ca is not None,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        return ServiceSpec("search", "search_service", f"127.0.0.1:{port}", NAME, {})

    yield run
    server.stop(0).wait()


@pytest.mark.service
@pytest.mark.parametrize("mutual", [False, True])
def test_a_child_is_trusted_by_its_own_certificate(start: Start, authority: Authority, mutual: bool) -> None:
    pair = authority.issue("own")
    spec = start(pair, authority.file if mutual else None)
    assert takes_calls(spec, None) is False
    tls = own_tls("search_service")
    assert takes_calls(spec, tls) is True
    # Nobody listens there yet, which is no failure.
    unused = ServiceSpec("search", "search_service", "127.0.0.1:1", NAME, {})
    assert takes_calls(unused, tls) is False
    web = plan(UpOptions(Path("data"), "m", "p", "127.0.0.1", 1, 2, 3, web_port=4, search_tls=tls))[-1]
    sent = {name.rpartition("_")[2]: value for name, value in web.environment.items() if "SEARCH_" in name}
    own = {"CA": str(pair.certificate)}
    assert sent == (own | {"CERTIFICATE": str(pair.certificate), "KEY": str(pair.key)} if mutual else own)


@pytest.mark.service
def test_a_certificate_that_can_never_fit_is_told_at_once(start: Start, authority: Authority) -> None:
    spec = start(authority.issue("own", names=("shop.example",)), None)
    with pytest.raises(
        Failure, match=r"search cannot be reached over TLS at 127\.0\.0\.1:.*name that address"
    ):
        takes_calls(spec, own_tls("search_service"))


@pytest.mark.service
def test_a_certificate_that_the_child_refuses_is_told_at_once(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    spec = start(authority.issue("own"), Authority(tmp_path, "clients").file)
    with pytest.raises(Failure, match=r"hangs up on its own certificate.*its own tls_client_ca lets in"):
        takes_calls(spec, own_tls("search_service"))


def test_settings_that_the_child_refuses_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIR_SEARCH_PORT", "many")
    assert own_tls("search_service") is None


UP = UpFile(os.getpid(), "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "edge:///x", "RN50", "openai")


def test_what_is_up_can_be_read_until_it_ends(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    assert up_file.read(data) is None
    with up_file.claim(data):
        assert up_file.read(data) is None
        up_file.write(data, UP)
        assert up_file.read(data) == UP
    assert up_file.read(data) is None


def test_a_flipped_byte_never_leads_elsewhere(tmp_path: Path) -> None:
    with up_file.claim(tmp_path):
        up_file.write(tmp_path, UP)
        path = tmp_path / "up.json"
        content = path.read_bytes()
        for at in range(len(content)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            try:
                found = up_file.read(tmp_path)
            except Failure:
                continue
            assert found == UP


def test_a_second_owner_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    with up_file.claim(tmp_path):
        with pytest.raises(Failure, match="already up; use them"), up_file.claim(tmp_path):
            pass
        up_file.write(tmp_path, UP)
        message = rf"already up \(process {os.getpid()}, search at 127\.0\.0\.1:1\)"
        with pytest.raises(Failure, match=message), up_file.claim(tmp_path):
            pass
        assert up_file.read(tmp_path) == UP
    with up_file.claim(tmp_path):
        pass


def _claim_and_die(data: Path) -> None:
    with up_file.claim(data):
        up_file.write(data, UP)
        assert up_file.read(data) == UP
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.service
def test_the_file_of_a_killed_owner_counts_for_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    # Its process id may belong to anybody by now, as here.
    assert (tmp_path / "up.json").exists()
    assert up_file.read(tmp_path) is None
    with up_file.claim(tmp_path):
        pass


@pytest.mark.parametrize("content", ["{", "[]", '{"pid": 1}'])
def test_a_damaged_file_is_said_to_be(tmp_path: Path, content: str) -> None:
    (tmp_path / "up.json").write_text(content)
    with pytest.raises(Failure, match=r"up\.json cannot be read"):
        up_file.read(tmp_path)


def test_a_data_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot be used"), up_file.claim(tmp_path / "file" / "data"):
        pass


@pytest.mark.service
def test_a_service_that_keeps_ending_is_given_up_with_its_reason(tmp_path: Path) -> None:
    # A program that ends at once: it finds no JSON on its input.
    spec = ServiceSpec("search", "json.tool", "127.0.0.1:1", "", {}, {})
    services, told = Services([spec], tmp_path, threading.Event()), list[str]()
    services.start()
    with pytest.raises(Failure, match=r"the search ended with exit code 1; .* 5 times in vain"):
        services.watch(told.append)
    assert len(told) == 5
    assert all(text.endswith("starting it again") for text in told)
    # What each of them wrote is kept.
    assert (tmp_path / "search.log").read_text().count("Expecting value") == 6


def test_what_becomes_of_the_services_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    search = plan(OPTIONS)[2]
    for tell in (_InJson(), _InWords()):
        tell.starting(OPTIONS, {"CIR_SEARCH_STORE": "is not used"}, without_web=True)
        tell.serving(search)
        tell.up(OPTIONS, asks_for_keys=True)
        tell.restarted("the search ended")
        tell.stopping()
        tell.stopped()
    lines = capsys.readouterr().out.splitlines()
    events = [json.loads(line) for line in lines[:6]]
    names = ["starting", "serving", "up", "restarted", "stopping", "stopped"]
    assert [event["event"] for event in events] == names
    assert events[0]["unused_variables"] == ["CIR_SEARCH_STORE"]
    assert events[0]["without_web"] is True
    assert events[1] == {"event": "serving", "service": "search", "address": search.address}
    assert events[2]["addresses"]["search"] == search.address
    assert events[2]["asks_for_keys"] is True
    assert "NOTE: CIR_SEARCH_STORE of the environment is not used" in lines[6:]
    assert any("export CIR_API_KEY=" in line for line in lines[6:])
    _InWords().up(OPTIONS, asks_for_keys=False)
    assert "CIR_API_KEY" not in capsys.readouterr().out
    assert lines[6].startswith("starting the services of ")
    assert lines[-1] == "stopped"


def test_the_dtype_is_the_embedders_and_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[UpOptions] = []

    def starting(options: UpOptions, **_: object) -> NoReturn:
        asked.append(options)
        raise Failure("enough")

    monkeypatch.setattr("cir_cli.up.running", starting)
    monkeypatch.setattr("cir_cli.up.resolve_ports", lambda *_: (5000, 5001, 5002))
    for dtype in get_args(EmbedderSettings.model_fields["dtype"].annotation):
        assert run(["up", "--no-web", "--dtype", dtype]) == 1
        assert plan(asked[-1])[0].environment["CIR_EMBEDDER_DTYPE"] == dtype
    assert run(["up", "--no-web"]) == 1
    assert "CIR_EMBEDDER_DTYPE" not in plan(asked[-1])[0].environment
    assert run(["up", "--no-web", "--dtype", "float64"]) == 2


def test_what_a_client_needs_over_tls_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ca, key = tmp_path / "my search.crt", tmp_path / "search.key"
    for tls, words, files in (
        (TlsFiles(ca), f"CIR_CA_FILE='{ca}'", {"ca_file": str(ca)}),
        (
            TlsFiles(ca, ca, key),
            f"CIR_CA_FILE='{ca}' CIR_CERT_FILE='{ca}' CIR_KEY_FILE={key}",
            {"ca_file": str(ca), "cert_file": str(ca), "key_file": str(key)},
        ),
    ):
        options = replace(OPTIONS, port=50050, search_tls=tls)
        _InWords().up(options, asks_for_keys=False)
        assert f"export CIR_SERVER=127.0.0.1:50050 {words}\n" in capsys.readouterr().out
        _InJson().up(options, asks_for_keys=False)
        assert json.loads(capsys.readouterr().out)["tls"] == files
    _InJson().up(OPTIONS, asks_for_keys=False)
    assert json.loads(capsys.readouterr().out)["tls"] is None


def test_the_reason_of_a_service_names_the_option_of_cir_up() -> None:
    told = with_advice("the embedder cannot start: give the folder as --architecture local-dir:x", "auto")
    assert told == "the embedder cannot start: give the folder as --model local-dir:x"
