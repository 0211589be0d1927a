"""The image, the services around it, and what they say of each other."""

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from marconi_core.serving.build import releases

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


@pytest.fixture(scope="module")
def compose_text(repository: Path) -> str:
    return (repository / "compose.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> str:
    text = (repository / "Dockerfile").read_text(encoding="utf-8")
    return re.sub(r"\\\n\s*", "", text)


def services(text: str, **variables: str) -> dict[str, Any]:
    """Return the services as `docker compose` sees them with these variables set."""

    def value(found: re.Match[str]) -> str:
        return variables.get(found["name"]) or found["default"] or ""

    content = yaml.safe_load(VARIABLE.sub(value, text))
    return dict(content["services"])


def load(repository: Path, name: str) -> Any:
    return yaml.safe_load((repository / "deploy" / name).read_text(encoding="utf-8"))


def test_variables_reach_the_server(compose_text: str) -> None:
    server = services(
        compose_text,
        MODEL_NAME="org/model",
        TENSOR_PARALLEL="2",
        SGLANG_EXTRA_ARGS="--enable-marconi --marconi-eff-weight 0.5",
    )["sglang-server"]
    words = shlex.split(server["command"])
    assert words[words.index("--model-path") + 1] == "org/model"
    assert words[words.index("--tp-size") + 1] == "2"
    assert words[-3:] == ["--enable-marconi", "--marconi-eff-weight", "0.5"]
    assert "--enable-metrics" in words
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == 2 and device["capabilities"] == ["gpu"]


def test_every_variable_has_a_default_and_is_documented(
    repository: Path, compose_text: str
) -> None:
    page = (repository / "docs/deploy.md").read_text(encoding="utf-8")
    found = list(VARIABLE.finditer(compose_text))
    assert {"MODEL_NAME", "TENSOR_PARALLEL", "SGLANG_EXTRA_ARGS"} <= {v["name"] for v in found}
    for variable in found:
        assert variable["default"] is not None, variable["name"]
        row = re.search(rf"^\| `{variable['name']}` \| (.*?) \|", page, re.MULTILINE)
        assert row is not None, variable["name"]
        assert variable["default"] in row[1], variable["name"]


def test_only_this_machine_is_served_unless_told_otherwise(compose_text: str) -> None:
    for name, service in services(compose_text).items():
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), name
    elsewhere = services(compose_text, BIND_ADDRESS="0.0.0.0")
    assert elsewhere["sglang-server"]["ports"] == ["0.0.0.0:30000:30000"]
    for name in ("prometheus", "grafana"):  # they ask for no password
        assert elsewhere[name]["ports"][0].startswith("127.0.0.1:")


def test_nobody_administers_grafana(compose_text: str) -> None:
    settings = services(compose_text)["grafana"]["environment"]
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_images_are_pinned(compose_text: str, dockerfile: str) -> None:
    images = [service["image"] for service in services(compose_text).values()]
    bases = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", dockerfile, re.MULTILINE))
    assert {f"${{{name}}}" for name in bases} == set(
        re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    )
    for image in [*images, *bases.values()]:
        assert re.search(r":v?\d+\.\d+\.\d+", image), image
    arguments = services(compose_text)["sglang-server"]["build"]["args"]
    assert arguments["CUDA_IMAGE"] == bases["CUDA_IMAGE"]
    versions = set(re.findall(r"^ARG SGLANG_VERSION=(\S+)$", dockerfile, re.MULTILINE))
    assert versions == {arguments["SGLANG_VERSION"]}


@pytest.mark.sources
def test_what_is_mounted_and_copied_exists(
    repository: Path, compose_text: str, dockerfile: str
) -> None:
    volumes = yaml.safe_load(compose_text)["volumes"]
    for service in services(compose_text).values():
        for mount in service["volumes"]:
            source = mount.partition(":")[0]
            assert source in volumes or (repository / source).exists(), source
    ignored = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored and all((repository / name).exists() for name in kept)
    copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", dockerfile, re.MULTILINE)
    for release in releases(repository):
        for source in copied:
            path = source.replace("${SGLANG_VERSION}", release)
            assert (repository / path).exists(), path
            assert path == "." or any(fnmatch(path.split("/")[0], name) for name in kept), path


def test_services_find_each_other(repository: Path, compose_text: str) -> None:
    found = services(compose_text)
    server = shlex.split(found["sglang-server"]["command"])
    (scrape,) = load(repository, "prometheus.yml")["scrape_configs"]
    (target,) = scrape["static_configs"][0]["targets"]
    assert target == f"sglang-server:{server[server.index('--port') + 1]}"
    (source,) = load(repository, "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in found
    (provider,) = load(repository, "grafana/provisioning/dashboards/marconi.yml")["providers"]
    mounts = dict(mount.split(":")[:2] for mount in found["grafana"]["volumes"])
    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    folder, _, home = found["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ].rpartition("/")
    assert folder == provider["options"]["path"]
    board = json.loads((repository / "deploy/grafana/dashboards" / home).read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}


def test_panels_do_not_overlap(repository: Path) -> None:
    board = json.loads((repository / "deploy/grafana/dashboards/marconi.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
