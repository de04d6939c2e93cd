from pathlib import Path

import pytest

from yapit.errors import ConfigurationError
from yapit.function_spec import discover
from yapit.workers.handlers.build_context import copy_context

ROOT = Path(__file__).parents[3]


def context_of(dockerfile: str, root: Path, into: Path) -> set[str]:
    (root / "Dockerfile").write_text(dockerfile)
    copy_context(root / "Dockerfile", root, into)
    return {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("a.txt", "b.txt", "src/one.py", "src/deep/two.py", "src/__pycache__/one.pyc", ".venv/large.so"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_what_is_copied_is_there_and_nothing_else(root: Path, tmp_path: Path) -> None:
    dockerfile = "FROM x\n# COPY b.txt ./\nCOPY a.txt ./\ncopy --chown=1:1 src app\nCOPY --from=build /out /out\n"
    assert context_of(dockerfile, root, tmp_path / "to") == {"a.txt", "src/one.py", "src/deep/two.py"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("COPY nothing.txt ./", "COPY nothing.txt: no such file"),
        ("COPY ../../etc/passwd ./", "no such file under"),
        ("COPY *.txt ./", "on one line"),
        ('COPY ["a.txt", "./"]', "on one line"),
        ("COPY a.txt \\", "on one line"),
    ],
)
def test_what_cannot_be_copied_is_named(root: Path, tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        context_of(f"FROM x\n{line}\n", root, tmp_path / "to")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", discover(ROOT / "functions"))
def test_every_functions_dockerfile_can_be_built_from_it(name: str, tmp_path: Path) -> None:
    copy_context(ROOT / "functions" / name / "Dockerfile", ROOT, tmp_path)
    assert (tmp_path / "functions" / name / "adapter.py").is_file()
    assert (tmp_path / "yapit" / "workers" / "handlers" / "modal_app.py").is_file()
