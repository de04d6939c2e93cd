"""The image of a function: its tag says what is in it, and whichever engine is there builds and pushes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.images.contents import content_tag, image_files, image_reference
from infra.images.engine import Engine
from infra.images.provide import provide
from yapit.errors import ConfigurationError, DeploymentFailed

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of two functions."""
    for name in ("pyproject.toml", "README.md", "constraints.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "yapit").mkdir()
    (tmp_path / "yapit" / "core.py").write_text("core")
    for function in ("wren", "owl"):
        folder = tmp_path / "functions" / function
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM scratch")
        (folder / "adapter.py").write_text(function)
    return tmp_path


def test_the_same_files_are_the_same_tag(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    tag = content_tag("wren", root)
    assert len(tag) == 12
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "clone"
    shutil.copytree(root, elsewhere)
    (elsewhere / "yapit" / "__pycache__").mkdir()
    (elsewhere / "yapit" / "__pycache__" / "core.cpython-312.pyc").write_bytes(b"x")
    (elsewhere / "functions" / "owl" / "adapter.py").write_text("another function")
    (elsewhere / "tts_processors.json").write_text("[]")
    assert content_tag("wren", elsewhere) == tag


@pytest.mark.parametrize("changed", ["yapit/core.py", "functions/wren/adapter.py", "constraints.txt"])
def test_another_content_is_another_tag(root: Path, changed: str) -> None:
    tag = content_tag("wren", root)
    (root / changed).write_text("changed")
    assert content_tag("wren", root) != tag


def test_a_file_that_becomes_executable_or_moves_is_another_tag(root: Path) -> None:
    tags = [content_tag("wren", root)]
    adapter = root / "functions" / "wren" / "adapter.py"
    adapter.chmod(0o755)
    tags.append(content_tag("wren", root))
    adapter.rename(adapter.with_name("moved.py"))
    tags.append(content_tag("wren", root))
    assert len(set(tags)) == 3


def test_the_tag_covers_whatever_the_dockerfiles_copy() -> None:
    for function in ("hibari", "espeak", "_template"):
        dockerfile = (ROOT / "functions" / function / "Dockerfile").read_text()
        sources = [word for line in dockerfile.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]]
        assert len(sources) > 4
        covered = {path.relative_to(ROOT).as_posix() for path in image_files(function, ROOT)}
        for source in sources:
            inside = source.rstrip("/")
            assert any(path == inside or path.startswith(f"{inside}/") for path in covered), source


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ("", "set IMAGE_REGISTRY"),
        ("https://ghcr.io/me", "without https"),
        ("ghcr.io/Me", "lower case"),
        ("ghcr.io/me;rm", "no place for images"),
    ],
)
def test_without_a_registry_there_is_nowhere_to_push(root: Path, registry: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        image_reference("wren", root, registry)


def test_an_image_is_named_after_its_function_and_content(root: Path) -> None:
    (root / "functions" / "wren").rename(root / "functions" / "night_owl")
    reference = image_reference("night_owl", root, "localhost:5000/me/")
    assert reference == f"localhost:5000/me/yapit-night-owl:{content_tag('night_owl', root)}"


def test_a_function_without_dockerfile_says_where_one_is(root: Path) -> None:
    (root / "functions" / "wren" / "Dockerfile").unlink()
    with pytest.raises(ConfigurationError, match="copy the one in functions/_template"):
        content_tag("wren", root)


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds nothing but the engines that a test makes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def make_engine(folder: Path, name: str, *, fails: str = "", has_image: bool = False) -> Path:
    """An engine that writes down what it is asked; the file in which it does."""
    calls = folder / f"{name}.calls"
    inspected = 0 if has_image else 1
    script = f"""#!/bin/sh
echo "$@" >> {calls}
case "$1 $2" in "manifest inspect"|"buildx imagetools") exit {inspected};; esac
if [ "$1" = "{fails}" ]; then echo "no space left on device"; exit 7; fi
"""
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)
    return calls


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_an_image_is_built_for_the_clouds_processors_and_pushed(engines: Path, root: Path, name: str) -> None:
    calls = make_engine(engines, name)
    provide("ghcr.io/me/yapit-wren:1", root / "functions/wren/Dockerfile", root)
    *asked, built, pushed = calls.read_text().splitlines()
    assert len(asked) == (0 if name == "buildah" else 1)
    assert built == (
        f"build --platform linux/amd64 --tag ghcr.io/me/yapit-wren:1 --file {root}/functions/wren/Dockerfile {root}"
    )
    assert pushed == "push ghcr.io/me/yapit-wren:1"


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_an_image_that_is_there_is_not_built_again(engines: Path, root: Path, name: str) -> None:
    calls = make_engine(engines, name, has_image=True)
    provide("ghcr.io/me/yapit-wren:1", root / "functions/wren/Dockerfile", root)
    assert len(calls.read_text().splitlines()) == 1


def test_docker_comes_first_unless_another_is_wanted(engines: Path) -> None:
    make_engine(engines, "podman")
    make_engine(engines, "docker")
    assert Engine.find().name == "docker"
    assert Engine.find("podman").name == "podman"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "docker, podman, buildah not found on PATH"),
        ("podman", "podman not found on PATH"),
        ("lxc", "CONTAINER_ENGINE='lxc' is none that is known"),
    ],
)
@pytest.mark.usefixtures("engines")
def test_without_an_engine_it_says_what_to_do(wanted: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Engine.find(wanted)


def test_a_failed_build_ends_with_the_engines_words(engines: Path, root: Path) -> None:
    calls = make_engine(engines, "docker", fails="build")
    with pytest.raises(DeploymentFailed, match=r"building x/y:1 failed \(docker ended with 7\)(.|\n)*no space left"):
        provide("x/y:1", root / "functions/wren/Dockerfile", root)
    assert "push" not in calls.read_text()


def test_a_refused_push_asks_for_a_login(engines: Path, root: Path) -> None:
    make_engine(engines, "podman", fails="push")
    with pytest.raises(DeploymentFailed, match=r"is the engine logged in\? podman login ghcr.io"):
        provide("ghcr.io/me/y:1", root / "functions/wren/Dockerfile", root)
