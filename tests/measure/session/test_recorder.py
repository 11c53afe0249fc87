"""What ``joulemap record`` writes of a GPU is what ``joulemap import --power`` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from joulemap.errors import StoreError
from joulemap.measure.meters.assumed import AssumedMeter
from joulemap.measure.meters.replay import ReplayMeter
from joulemap.measure.session.instruments import Instruments
from joulemap.measure.session.recorder import Recording
from joulemap.store.importers.power_log import energy_over, read_power_log
from tests.measure.session.scripted import Bench


def test_recorded_power_gives_the_energy_of_a_window(tmp_path: Path) -> None:
    bench = Bench(power=lambda _t: 250.0)
    with Recording(tmp_path / "recording", bench.instruments) as recording:
        begin_s = bench.clock.now().timestamp()
        for _ in range(20):
            bench.clock.sleep(1.0)
            recording.flush()
        recording.finish()
    log = read_power_log(tmp_path / "recording" / "power.csv")
    assert log.gpu_name == bench.gpu.name
    found = energy_over(log, begin_s + 2.0, begin_s + 12.0, 1)
    assert found.energy_j == pytest.approx(2500.0, rel=1e-3)
    (times,) = log.times_s.values()
    assert len(times) == len(set(times)) == 201  # each reading once, though it was flushed often
    replayed = ReplayMeter(tmp_path / "recording" / "power-nvidia.parquet")
    assert replayed.describe().devices[0].name == bench.gpu.name


def test_what_was_assumed_is_not_written_as_gpu_power(tmp_path: Path) -> None:
    with Instruments([AssumedMeter(100.0)]) as instruments, Recording(tmp_path, instruments) as recording:
        instruments.read_once()
        instruments.stop()
        recording.finish()
    assert [f.name for f in tmp_path.iterdir()] == ["power-assumed.parquet"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Recording(blocked, Bench().instruments)
