from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cir.failure import Failure
from cir.local.plan import SHIPPED, SHIPPED_COMBINER, SHIPPED_MODEL, UpOptions, plan
from cir.local.ports import check_free, free_ports, resolve_ports
from combiner_service.settings import CombinerSettings
from embedder_service.settings import EmbedderSettings
from search_service.settings import SearchSettings
from service_runtime.settings import ProgramSettings
from web_demo.settings import DemoSettings

OPTIONS = UpOptions(Path("data"), "RN50", "random:3", "127.0.0.1", 5000, 5001, 5002)


def test_every_variable_is_a_setting_of_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan writes names; the services' own classes have to read them."""
    classes: dict[str, type[ProgramSettings]] = {
        "embedder": EmbedderSettings,
        "combiner": CombinerSettings,
        "search": SearchSettings,
        "web": DemoSettings,
    }
    loaded = {}
    options = replace(OPTIONS, checkpoints=Path("weights"), web_port=5003)
    for spec in plan(options):
        for name, value in spec.environment.items():
            monkeypatch.setenv(name, value)
        prefix = str(classes[spec.name].model_config["env_prefix"])
        fields = {name.removeprefix(prefix).lower() for name in spec.environment}
        assert fields <= classes[spec.name].model_fields.keys()
        loaded[spec.name] = classes[spec.name].load([])
        assert loaded[spec.name].address == spec.address
    embedder, combiner, search = loaded["embedder"], loaded["combiner"], loaded["search"]
    assert isinstance(embedder, EmbedderSettings)
    assert (embedder.architecture, embedder.pretrained) == ("RN50", "random:3")
    assert isinstance(combiner, CombinerSettings)
    assert combiner.checkpoint_dir == Path("weights").resolve()
    web = loaded["web"]
    assert isinstance(web, DemoSettings)
    assert web.search == search.address
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
    assert combiner.checkpoint_dir is not None
    assert (combiner.checkpoint_dir / "garments.safetensors").is_file()
    assert combiner.default_combiner == search.default_combiner == SHIPPED_COMBINER
    for options, expected in (
        (OPTIONS, "sum"),
        (replace(shipped, default_combiner="slerp"), "slerp"),
        (replace(shipped, checkpoints=Path("own")), "sum"),
    ):
        combiner, search = settings_of(options)
        assert combiner.default_combiner == search.default_combiner == expected


def test_only_search_listens_on_other_interfaces() -> None:
    embedder, combiner, search = plan(replace(OPTIONS, host="0.0.0.0"))
    assert search.environment["CIR_SEARCH_HOST"] == "0.0.0.0"
    assert search.address == "127.0.0.1:5000"
    assert embedder.environment["CIR_EMBEDDER_HOST"] == "127.0.0.1"
    assert combiner.environment["CIR_COMBINER_HOST"] == "127.0.0.1"


def test_only_search_asks_for_keys() -> None:
    specs = plan(replace(OPTIONS, api_keys_file=Path("keys.toml")))
    assert [spec.environment.get(f"CIR_{spec.name.upper()}_API_KEYS_FILE") for spec in specs] == [
        None,
        None,
        str(Path("keys.toml").resolve()),
    ]


def test_ports_follow_the_first_unless_given() -> None:
    assert resolve_ports(50050, None, None) == (50050, 50051, 50052)
    assert resolve_ports(50050, 7000, None) == (50050, 7000, 50052)
    assert len({*resolve_ports(0, None, None), *resolve_ports(50050, 0, 0)}) == 6
    with pytest.raises(Failure, match="need three ports, not 50050, 50050, 50052"):
        resolve_ports(50050, 50050, None)


def test_a_port_in_use_is_named() -> None:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(Failure, match=f"cannot listen on {address}: Address already in use"):
            check_free([address])
    check_free([f"127.0.0.1:{port}" for port in free_ports(2)])
