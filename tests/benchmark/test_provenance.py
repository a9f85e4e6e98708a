from functools import partial
from pathlib import Path

import pytest

import codecbench
from codecbench.benchmark import provenance
from codecbench.metrics import registry as metrics
from codecbench.models import encodec

HERE = Path(codecbench.__file__).parent


def named_by(file: Path) -> set[str]:
    found: set[Path] = set()
    left = {file.resolve()}
    while left:
        found |= left
        left = {other for path in left for other in provenance._named(path.read_text("utf-8"))} - found
    return {str(path.relative_to(HERE.resolve().parents[1])) for path in found}


def test_a_codec_depends_on_its_blocks_and_on_no_metric_and_no_registry() -> None:
    found = named_by(Path(encodec.__file__))
    assert {"models/encodec.py", "models/blocks/seanet.py", "models/blocks/quantise.py", "models/base.py"} <= found
    assert not [name for name in found if name.startswith(("metrics/", "benchmark/")) or "registry" in name]


@pytest.mark.parametrize("family", metrics.FAMILIES)
def test_a_new_family_of_metrics_changes_nothing_for_the_others(family: str) -> None:
    found = named_by(HERE.joinpath(*family.split(".")[1:]).with_suffix(".py"))
    assert f"{family.removeprefix('codecbench.').replace('.', '/')}.py" in found
    assert not [name for name in found if "registry" in name or name.startswith("benchmark/")]


def test_a_digest_changes_with_the_file_and_with_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "codecbench"
    (package / "models").mkdir(parents=True)
    adapter, helper = tmp_path / "adapter.py", package / "models" / "helper.py"
    monkeypatch.setattr(codecbench, "__file__", str(package / "__init__.py"))

    def digest() -> str:
        for cached in (provenance.source_digest, provenance._file_of):
            cached.cache_clear()
        return provenance.source_digest(adapter)

    adapter.write_text("from codecbench.models import (\n    other,\n    helper,\n)\n")
    helper.write_text("X = 1\n")
    first = digest()
    assert digest() == first
    helper.write_text("X = 2\n")
    second = digest()
    adapter.write_text("from codecbench.models import helper\n")
    assert len({first, second, digest()}) == 3
    provenance.source_digest.cache_clear()
    provenance._file_of.cache_clear()


def test_a_partial_is_known_by_its_function() -> None:
    pesq = metrics.find("pesq_wb").score
    assert provenance.function_digest(pesq) == provenance.function_digest(partial(partial(pesq), band="nb")) != ""
    assert provenance.function_digest(pesq) != provenance.function_digest(metrics.find("stoi").score)


def test_a_package_of_others_counts_as_a_whole(tmp_path: Path) -> None:
    for name in ("codec.py", "helper.py"):
        (tmp_path / name).write_text("X = 1\n")
    codec = tmp_path / "codec.py"
    whole, alone = provenance.source_of(codec, "theirs"), provenance.source_of(codec, f"{codec}:Codec")
    provenance.source_digest.cache_clear()
    (tmp_path / "helper.py").write_text("X = 2\n")
    assert provenance.source_of(codec, "theirs") != whole
    assert provenance.source_of(codec, f"{codec}:Codec") == alone
    assert provenance.source_of(None, "theirs") == ""


def test_the_environment_is_the_installed_packages(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    python = tmp_path / "bin" / "python"
    provenance.environment.cache_clear()
    empty = provenance.environment(python)
    (packages / "numpy-9.dist-info").mkdir()
    provenance.environment.cache_clear()
    assert provenance.environment(python) != empty != provenance.environment()
