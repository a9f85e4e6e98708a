"""The README's example runs as it stands."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_s_codec_runs(tmp_path: Path, run: Callable[..., Any], rows: Callable[..., Any]) -> None:
    (code,) = re.findall(r"```python\n(import numpy as np\n.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(code.splitlines()) <= 30
    (tmp_path / "coarse.py").write_text(code)
    target = f"{tmp_path / 'coarse.py'}:Coarse"
    run("identity", options=("--models", target, "--metrics", "si_sdr"))
    assert all(row["status"] == "ok" and row["value"] > 5 for row in rows(metric="si_sdr"))
    assert abs(rows(metric="kbps")[0]["value"] - 32) < 0.1
