from __future__ import annotations

import json
import resource
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from joulemap.cli.doctor import show_examination
from joulemap.errors import EnvironmentLacksError, MeterError, install_extra
from joulemap.measure.doctor import Check, Examination, State, Surroundings, examine_machine
from joulemap.measure.meters.apple import AppleMeter
from joulemap.measure.meters.assumed import AssumedMeter
from joulemap.measure.meters.choice import OPENERS, MeterOpener, MeterOptions
from joulemap.measure.meters.fake_nvml import FakeNvml
from joulemap.measure.meters.meter import Meter
from joulemap.measure.meters.nvidia import NvidiaMeter
from joulemap.records import Basis
from tests.measure.hand_clock import HandClock
from tests.measure.meters.fakes import FakeAppleMonitor, powercap_tree


def absent(_options: MeterOptions) -> Meter:
    message = "no such hardware"
    raise EnvironmentLacksError(message, fix="buy some")


def crashing(_options: MeterOptions) -> Meter:
    message = "boom"
    raise RuntimeError(message)


def surroundings(tmp_path: Path, **openers: MeterOpener) -> Surroundings:
    known = {**OPENERS, "nvidia": absent, "amd": absent, "apple": absent, **openers}
    return Surroundings(
        options=MeterOptions(powercap=tmp_path / "powercap"), openers=known, proc=tmp_path, sys=tmp_path
    )


def check(examination: Examination, name: str) -> Check:
    (found,) = [c for c in examination.checks if c.name == name]
    return found


def test_without_any_meter_energy_is_assumed_and_says_so(tmp_path: Path) -> None:
    examination = examine_machine(surroundings(tmp_path))
    assert examination.energy_basis is Basis.ASSUMED
    assert "assumed TDP" in examination.energy_source
    assert check(examination, "nvidia") == Check(
        group="power", name="nvidia", state=State.ABSENT, finding="no such hardware", fix="buy some"
    )
    assert check(examination, "assumed").state is State.LIMITED


def test_real_meters_are_described_and_closed(tmp_path: Path) -> None:
    fake = FakeNvml(8)
    (tmp_path / "powercap").mkdir()
    powercap_tree(tmp_path / "powercap")
    examination = examine_machine(surroundings(tmp_path, nvidia=lambda o: NvidiaMeter(fake, environment={})))
    assert examination.energy_basis is Basis.MEASURED
    assert examination.energy_source == "nvidia and rapl"
    found = check(examination, "nvidia")
    assert (found.state, found.finding) == (State.OK, "8 × NVIDIA H100 80GB HBM3: energy counter, measured")
    assert fake.initialised == 0


def test_a_fallback_is_told(tmp_path: Path) -> None:
    fake = FakeNvml(1)
    fake.gpus[0].unsupported |= {"nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption"}
    found = check(
        examine_machine(surroundings(tmp_path, nvidia=lambda o: NvidiaMeter(fake, environment={}))), "nvidia"
    )
    assert found.state is State.LIMITED
    assert "power only" in found.finding
    assert "no energy counter; energy is integrated power" in found.finding


def test_apples_energies_are_modelled(tmp_path: Path) -> None:
    clock = HandClock()
    examination = examine_machine(
        surroundings(tmp_path, apple=lambda o: AppleMeter(FakeAppleMonitor(clock), clock=clock))
    )
    assert examination.energy_basis is Basis.MODELLED


def test_mig_and_broken_plugins_are_findings_not_errors(tmp_path: Path) -> None:
    def mig(_options: MeterOptions) -> Meter:
        message = "GPU 0 has MIG on"
        raise MeterError(message, fix="sudo nvidia-smi -i 0 -mig 0")

    examination = examine_machine(
        surroundings(tmp_path, nvidia=mig, wall=crashing, plug=lambda o: AssumedMeter(5.0))
    )
    assert check(examination, "nvidia").fix == "sudo nvidia-smi -i 0 -mig 0"
    assert check(examination, "wall").finding == "its code failed with RuntimeError: boom"
    assert "assumed" in check(examination, "plug").finding
    assert examination.energy_basis is Basis.ASSUMED


def test_the_machine_is_read_from_its_files(tmp_path: Path) -> None:
    clock = tmp_path / "devices/system/clocksource/clocksource0"
    clock.mkdir(parents=True)
    (clock / "current_clocksource").write_text("hpet\n")
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    (tmp_path / "fs/cgroup/cpu.max").write_text("50000 100000\n")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu hypervisor sse\n")
    (tmp_path / "class/dmi/id").mkdir(parents=True)
    (tmp_path / "class/dmi/id/product_name").write_text("Standard PC\n")
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_local_port_range").write_text("60000\t61000\n")
    examination = examine_machine(surroundings(tmp_path))
    assert check(examination, "clock").state is State.LIMITED
    assert check(examination, "clock").finding.startswith("hpet")
    assert check(examination, "CPUs").finding.startswith("0.5 usable (of ")
    assert "Standard PC" in check(examination, "virtual machine").finding
    assert check(examination, "local ports").state is State.LIMITED
    (tmp_path / "cpuinfo").write_text("flags : fpu sse\n")
    (clock / "current_clocksource").write_text("tsc\n")
    examination = examine_machine(surroundings(tmp_path))
    assert check(examination, "virtual machine").state is State.OK
    assert check(examination, "clock").state is State.OK


@pytest.mark.parametrize(
    ("limits", "state", "fix"),
    [
        ((1024, 4096), State.LIMITED, "as root: ulimit -Hn 4608"),
        ((1024, 65536), State.LIMITED, "ulimit -n 4608"),
        ((256, resource.RLIM_INFINITY), State.LIMITED, "ulimit -n 4608"),
        ((65536, 65536), State.OK, None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), State.OK, None),
    ],
)
def test_open_files_are_enough_for_all_streams(
    limits: tuple[int, int], state: State, fix: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits)
    found = check(examine_machine(surroundings(tmp_path)), "open files")
    assert found.state is state
    assert (found.fix is None) if fix is None else (found.fix or "").startswith(fix)


def test_libraries_that_are_missing_name_their_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _name: None)
    found = check(examine_machine(surroundings(tmp_path)), "diffusers")
    assert (found.state, found.fix) == (State.ABSENT, install_extra("diffusers"))


def test_every_limit_has_a_way_out_or_is_inherent() -> None:
    examination = examine_machine()
    inherent = {"assumed", "apple"}
    for found in examination.checks:
        if found.state is not State.OK and found.name not in inherent:
            assert found.fix, f"{found.name}: {found.finding}"


def test_json_and_console_tell_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    show_examination(json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["energy_basis"] in {"measured", "modelled", "assumed"}
    assert {c["group"] for c in told["checks"]} == {"power", "activity", "engines", "load client", "machine"}
    show_examination()
    shown = capsys.readouterr().out
    assert all(c["name"] in shown for c in told["checks"])
    assert f"are {told['energy_basis']}:" in shown


def test_the_command_ends_with_zero() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "joulemap", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checks"]
