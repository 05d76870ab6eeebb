"""What is kept between runs: found again, made anew when versions change or the file is damaged, never in the way."""

from __future__ import annotations

import pytest
import torch

from graphinv.metrics import cache
from graphinv.metrics.cache import digest, load_or_make


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Count how often something had to be made."""
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path))
    calls = []

    def make() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"x": torch.arange(3.0)}

    return lambda: (load_or_make("test", digest(["CO"], 1), make)["x"].tolist(), len(calls))


def test_what_is_kept_is_found_again_until_a_version_changes(made, monkeypatch):
    assert made() == ([0.0, 1.0, 2.0], 1) and made() == ([0.0, 1.0, 2.0], 1)
    monkeypatch.setattr(cache, "package_version", lambda name: "0")
    assert made() == ([0.0, 1.0, 2.0], 2) and made()[1] == 2


def test_a_damaged_file_is_made_anew(made, tmp_path, caplog):
    made()
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(b"\xff" * 40)
    assert made() == ([0.0, 1.0, 2.0], 2) and "made anew" in caplog.text
    assert made()[1] == 2


def test_where_nothing_can_be_written_nothing_is_kept(made, tmp_path, caplog):
    (tmp_path / "metrics").write_text("in the way")
    assert made() == ([0.0, 1.0, 2.0], 1) and made() == ([0.0, 1.0, 2.0], 2)
    assert "not kept" in caplog.text


def test_lines_and_settings_do_not_run_into_each_other():
    names = {digest(["a", "b"]), digest(["ab"]), digest(["a"], "b"), digest([], "a", "b")}
    assert len(names) == 4
