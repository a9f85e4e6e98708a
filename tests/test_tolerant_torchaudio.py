import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = {
    "__init__.py": "from . import _extension, functional",
    "_extension.py": "from . import helpers; raise OSError('Could not load this library')",
    "helpers.py": "",
    "functional.py": """
from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align

@fail_if_no_align
def aligned():
    return 1

def pure():
    return _IS_TORCHAUDIO_EXT_AVAILABLE
""",
}
WHOLE = {
    **BROKEN,
    "_extension.py": "_IS_TORCHAUDIO_EXT_AVAILABLE = True\ndef fail_if_no_align(function): return function",
}


def run(
    script: str, folder: Path | None = None, files: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `script` in a fresh interpreter, which finds the package `torchaudio` made of `files` first."""
    if folder is not None:
        package = folder / "torchaudio"
        package.mkdir()
        for name, text in (files or {}).items():
            package.joinpath(name).write_text(text)
    path = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else ""
    preamble = path + "from codecbench.tolerant_torchaudio import load\n"
    command = [sys.executable, "-W", "error", "-c", preamble + script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_an_extension_that_does_not_load_leaves_the_python_parts(tmp_path: Path) -> None:
    script = """
try:
    import torchaudio
except OSError:
    pass  # another import came first, and left half of the package behind
package = load()
import torchaudio, torchaudio.functional
assert package is torchaudio is load()
assert torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE is False
assert torchaudio.functional.pure() is False
torchaudio.functional.aligned()
"""
    done = run(script, tmp_path, BROKEN)
    assert "RuntimeError: torchaudio.functional.aligned needs torchaudio's compiled extension" in done.stderr


def test_an_extension_that_loads_is_used(tmp_path: Path) -> None:
    script = "package = load(); print(package._extension.__file__, package.functional.aligned())"
    done = run(script, tmp_path, WHOLE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "torchaudio" / "_extension.py"), "1"]


@pytest.mark.parametrize("error", ["OSError", "ImportError"])
def test_another_fault_is_not_hidden_and_leaves_no_ruins(tmp_path: Path, error: str) -> None:
    files = {**BROKEN, "functional.py": f"raise {error}('elsewhere')"}
    script = f"""
try:
    load()
except {error} as fault:
    print(fault, [name for name in sys.modules if name.startswith("torchaudio")])
"""
    done = run(script, tmp_path, files)
    assert done.stdout.strip() == "elsewhere []", done.stderr


def test_the_installed_torchaudio_serves_a_plain_import_afterwards() -> None:
    script = """
functional = load().functional
import torchaudio, torchaudio.transforms, torchaudio.compliance.kaldi
print(tuple(functional.melscale_fbanks(257, 0.0, 8000.0, 40, 16000).shape))
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(257, 40)"
