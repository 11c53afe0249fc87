"""Power logs: their formats, their alignment, and when they are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from joulemap.errors import ImportFileError, UsageError
from joulemap.store.importers.power_log import energy_over, read_power_log
from tests.store.importers.samples import START_S, power_csv


def test_constant_power_over_a_window(tmp_path: Path) -> None:
    log = read_power_log(power_csv(tmp_path / "p.csv", (300.0, 200.0)))
    found = energy_over(log, START_S, START_S + 60, 2)
    assert found.energy_j == pytest.approx(30_000)
    assert found.power_w == pytest.approx(500)
    assert found.num_gpus == 2


def test_a_ramp_is_integrated_with_its_edges_between_samples(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("timestamp,gpu,power_w\n" + "".join(f"{t},0,{10 * t}\n" for t in range(0, 21, 2)))
    # ∫ 10 t dt from 3 to 12.5
    assert energy_over(read_power_log(path), 3.0, 12.5, 1).energy_j == pytest.approx(5 * (12.5**2 - 9))


def nvidia_smi(path: Path, hour: int = 13) -> Path:
    """As ``--query-gpu=timestamp,index,name,power.draw --format=csv -l 1`` writes it, one hour east of UTC."""
    lines = ["timestamp, index, name, power.draw [W]"]
    for second in range(-10, 71):
        minute, rest = divmod(second, 60)
        stamp = f"2026/02/16 {hour + minute // 60:02d}:{minute % 60:02d}:{rest:02d}.250"
        lines += [f"{stamp}, {gpu}, NVIDIA H100 80GB HBM3, {watts} W" for gpu, watts in ((0, 400.0), (1, 100.0))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_nvidia_smi_in_its_own_timezone(tmp_path: Path) -> None:
    log = read_power_log(nvidia_smi(tmp_path / "p.csv"), "Europe/Zurich")
    assert energy_over(log, START_S, START_S + 60, 2).energy_j == pytest.approx(30_000)
    assert log.gpu_name == "NVIDIA H100 80GB HBM3"


def test_the_wrong_timezone_is_refused_and_said(tmp_path: Path) -> None:
    log = read_power_log(nvidia_smi(tmp_path / "p.csv"), "UTC")
    with pytest.raises(ImportFileError, match=r"begins 3,590\.2 s after.*\n.*--timezone"):
        energy_over(log, START_S, START_S + 60, 2)


def test_an_unknown_timezone(tmp_path: Path) -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(UsageError, match="timezone"):
            read_power_log(nvidia_smi(tmp_path / "p.csv"), name)


@pytest.mark.parametrize("scale", [1, 1e3, 1e6, 1e9])
def test_unix_times_in_any_unit(tmp_path: Path, scale: float) -> None:
    path = tmp_path / "p.csv"
    rows = "".join(f"{(START_S + t) * scale:.0f},0,100\n" for t in range(11))
    path.write_text("timestamp,gpu,power_w\n" + rows)
    assert energy_over(read_power_log(path), START_S, START_S + 10, 1).energy_j == pytest.approx(1000)


def test_a_gap_is_refused_only_in_the_window(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    times = [t for t in range(101) if not 20 < t < 24]
    path.write_text("timestamp,gpu,power_w\n" + "".join(f"{t},0,100\n" for t in times))
    log = read_power_log(path)
    with pytest.raises(ImportFileError, match="gap of 4"):
        energy_over(log, 10, 50, 1)
    assert energy_over(log, 24, 50, 1).energy_j == pytest.approx(2600)
    with pytest.raises(ImportFileError, match="gap of 4"):
        energy_over(log, 22, 50, 1)


@pytest.mark.parametrize(("start", "end", "words"), [(-1, 50, "begins"), (10, 101, "ends"), (50, 50, "empty")])
def test_the_window_must_be_bracketed(tmp_path: Path, start: float, end: float, words: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text("timestamp,gpu,power_w\n" + "".join(f"{t},0,100\n" for t in range(101)))
    with pytest.raises(ImportFileError, match=words):
        energy_over(read_power_log(path), start, end, 1)


def test_the_gpu_count_must_fit(tmp_path: Path) -> None:
    log = read_power_log(power_csv(tmp_path / "p.csv", (100.0,) * 8))
    with pytest.raises(ImportFileError, match="covers 8 GPUs, but 4 were measured"):
        energy_over(log, START_S, START_S + 60, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no power samples"),
        ("timestamp,gpu,power_w\n", "no power samples"),
        ("a,b,c\n1,2,3\n", "no column 'timestamp'"),
        ("timestamp,power_w\n1,2\n", "needs the columns"),
        ("timestamp,gpu,power_w\n1,0,-5\n", "cannot be"),
        ("timestamp,gpu,power_w\n1,0,nan\n", "cannot be"),
        ("timestamp,gpu,power_w\n1,0,inf\n", "cannot be"),
        ("timestamp,gpu,power_w\n1,0,9e9\n", "cannot be"),
        ("timestamp,gpu,power_w\n1,0,lots\n", "no number"),
        ("timestamp,gpu,power_w\nnoon,0,5\n", "no date and time"),
        ("timestamp,gpu,power_w\n-7,0,5\n", "no Unix time"),
        ("timestamp,gpu,power_w\nnan,0,5\n", "no Unix time"),
        ("timestamp,gpu,power_w\n5,0,5\n3,0,5\n", "steps back in time by 2.0 s"),
        ("timestamp,gpu,power_w\n5,MIG-1,5\n", "MIG"),
        ("timestamp,gpu,power_w\n5,0,[N/A]\n", "no power samples"),
    ],
)
def test_what_is_no_power_log(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(ImportFileError, match=words) as caught:
        read_power_log(path)
    assert caught.value.file == str(path)


def test_samples_without_a_reading_and_half_a_last_line_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{t},0,{'[Unknown Error]' if t == 5 else 100}" for t in range(11)]
    path.write_text("timestamp,gpu,power_w\n" + "\n".join(rows) + "\n11,0")
    log = read_power_log(path)
    assert len(log.times_s["0"]) == 10
    assert math.isclose(energy_over(log, 0, 10, 1).energy_j, 1000)


def test_a_log_restarted_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("timestamp,gpu,power_w\n1,0,100\n\ntimestamp,gpu,power_w\n2,0,100\n")
    assert energy_over(read_power_log(path), 1, 2, 1).energy_j == pytest.approx(100)


def test_a_log_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = power_csv(tmp_path / "p.csv", (100.0,))
    assert len(read_power_log(path).times_s) == 1
    power_csv(path, (100.0, 100.0))
    assert len(read_power_log(path).times_s) == 2
