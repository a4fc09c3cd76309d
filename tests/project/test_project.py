"""The frame of the project: what it depends on, what `make` offers, what is committed."""

import os
import re
import shutil
import socket
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()
PINNED = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in CONSTRAINTS}
DOCUMENTED = dict(re.findall(r"^([a-z_-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))

# A path below a folder that only one machine has, in a form that does not match its own source.
MACHINE_PATH = re.compile(r"(?<![\w./~:$})-])/(?:home|root|Users|tmp|work|scratch)/[\w.-]|[A-Z]:\\Users\\")
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (("pypi", "org"), ("files", "pythonhosted", "org"), ("registry", "npmjs", "org"), ("debian", "org"))
)


def committed_files() -> list[Path]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def offences(text: str) -> list[str]:
    """The places in a text that belong to one machine or name a package registry."""
    return MACHINE_PATH.findall(text) + [host for host in REGISTRIES if host in text]


def make(*arguments: str) -> str:
    if not shutil.which("make"):
        pytest.skip("there is no make")
    return subprocess.run(["make", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *chain.from_iterable(EXTRAS.values())])
def test_every_dependency_is_bounded_and_pinned_within_its_bounds(text: str) -> None:
    requirement = Requirement(text)
    operators = {part.operator for part in requirement.specifier}
    assert "==" in operators or {">=", "<"} <= operators
    assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)])


def test_constraints_are_bare_versions_sorted_and_unique() -> None:
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)] == []
    assert len(PINNED) == len(CONSTRAINTS) > 100
    assert list(PINNED) == sorted(PINNED)


@pytest.mark.parametrize("name", ["lightning", "pytorch-lightning"])
@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_malicious_lightning_releases_are_excluded(name: str, version: str) -> None:
    (requirement,) = (Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == name)
    assert not requirement.specifier.contains(version)
    assert not requirement.specifier.contains("2.6.5")
    assert PINNED[name] != version


def test_only_one_opencv_is_installed() -> None:
    assert [name for name in PINNED if name.startswith("opencv")] == ["opencv-python-headless"]


def test_make_lists_every_target_with_its_line() -> None:
    listed = dict(re.findall(r"^  ([a-z_-]+) +(.+)$", make("--silent"), re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == DOCUMENTED
    assert set(listed) == set(phony.split())
    assert make("--silent", "help") == make("--silent")


def test_ci_runs_make_check_and_make_check_runs_every_check() -> None:
    (parts,) = re.findall(r"^check: ([a-z ]+) ##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(parts.split()) == {"lint", "imports", "types", "test"}
    assert "check" in re.findall(r"^make (.+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


@pytest.mark.parametrize("index", ["", "https://example.com/cpu wheels"])
def test_a_further_index_reaches_pip(index: str, tmp_path: Path) -> None:
    """`make install TORCH_INDEX=URL`, with a Python that writes down its arguments instead of installing anything."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "bootstrap", tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$@" > arguments\n')
    python.chmod(0o755)
    environment = {**os.environ, "TORCH_INDEX": index}
    subprocess.run(["sh", "scripts/bootstrap", "python3", ".[dev]"], cwd=tmp_path, env=environment, check=True)
    words = (tmp_path / "arguments").read_text().split("|")[:-1]
    extra = ["--extra-index-url", index] if index else []
    assert words[-2:] == ["-e", ".[dev]"]
    assert words[words.index("constraints.txt") + 1 : -2] == extra


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_hands_the_index_on(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    bootstrap = tmp_path / "scripts" / "bootstrap"
    bootstrap.write_text('#!/bin/sh\necho "$2 $TORCH_INDEX" >> indexes\n')
    bootstrap.chmod(0o755)
    make("-C", str(tmp_path), "install", "TORCH_INDEX=https://example.com")
    indexes = (tmp_path / "indexes").read_text().splitlines()
    assert indexes == [". https://example.com", ".[dev,launchers] https://example.com"]


@pytest.mark.slow
def test_no_committed_file_names_a_machine_or_a_registry() -> None:
    found = {}
    for file in committed_files():
        content = file.read_bytes()
        if b"\0" not in content and (places := offences(content.decode(errors="replace"))):
            found[str(file.relative_to(ROOT))] = places
    assert found == {}


def test_offences_are_found_and_addresses_are_not() -> None:
    for folder in ("home", "tmp", "work", "Users"):
        assert offences(f"data.root=/{folder}/someone/cifar10")
    assert offences("https://" + REGISTRIES[1] + "/packages/x.whl")
    assert offences("https://example.com/home/page and ~/work/x and logbook/tmp/x and $HOME/tmp/x") == []


def test_no_committed_file_is_over_ten_megabytes() -> None:
    assert [str(file) for file in committed_files() if file.stat().st_size > 10_000_000] == []


def test_tests_cannot_leave_the_machine() -> None:
    with pytest.raises(pytest.fail.Exception, match="network"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
    with pytest.raises(pytest.fail.Exception, match="network"):
        socket.getaddrinfo("example.com", 80)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
