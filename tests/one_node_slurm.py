"""A SLURM of one node, started and stopped by a test: munged, slurmctld and slurmd from Debian's packages, as local processes.

Needs `apt-get install --no-install-recommends slurmctld slurmd slurm-client munge`. It listens on free ports of 127.0.0.1, keeps
everything in one folder, and has two made-up GPUs, which jobs are given as on a real cluster.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
CONFIG = """
ClusterName=kit
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MailProg=/bin/true
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=1
MinJobAge=3600
ReturnToService=2
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""
PATIENCE_S = 60


def why_not() -> str | None:
    """What this machine lacks for a SLURM of its own; None when nothing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # daemons are not on everybody's PATH
    missing = [name for name in DAEMONS if not shutil.which(name, path=path)]
    return f"no SLURM here ({', '.join(missing)}): apt-get install slurmctld slurmd slurm-client munge" if missing else None


@contextlib.contextmanager
def one_node_slurm(folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start it in ``folder``, and stop it in the end, with its jobs.

    Yields:
        The environment in which sbatch and squeue speak to it.

    Raises:
        RuntimeError: a daemon ended, or the node did not become idle in time; the message holds the logs.
    """
    folder.mkdir(parents=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for path in (folder, *folder.parents):  # munged wants a way to its socket that all may walk
        with contextlib.suppress(PermissionError):
            path.chmod(path.stat().st_mode | 0o055 if path == folder else path.stat().st_mode | 0o011)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller, node = _free_ports(2)
    user = pwd.getpwuid(os.getuid()).pw_name
    config = CONFIG.format(user=user, folder=folder, controller=controller, node=node, cpus=cpus)
    (folder / "slurm.conf").write_text(config, encoding="utf-8")
    devices = [folder / f"gpu{number}" for number in range(2)]
    for device in devices:
        device.touch()
    lines = [f"Name=gpu File={device} Flags=nvidia_gpu_env\n" for device in devices]
    (folder / "gres.conf").write_text("".join(lines), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {"SLURM_CONF": str(folder / "slurm.conf")}
    environment["PATH"] = os.pathsep.join([environment.get("PATH", ""), "/usr/sbin", "/sbin"])
    # Snakemake takes SLURM's variables out of a job, where clusters have their settings in a place that srun knows.
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    found = shutil.which("srun", path=environment["PATH"])
    srun.write_text(f'#!/bin/sh\nSLURM_CONF="{folder}/slurm.conf" exec {found} "$@"\n', encoding="utf-8")
    srun.chmod(0o755)
    environment["PATH"] = f"{srun.parent}{os.pathsep}{environment['PATH']}"
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder / 'munge.socket'}"]
    munged += [f"--pid-file={folder / 'munged.pid'}", f"--log-file={folder / 'munged.log'}", f"--seed-file={folder / 'seed'}"]
    commands = [munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "localhost"]]
    with contextlib.ExitStack() as stack:
        daemons = []
        for command in commands:
            with open(folder / f"{command[0]}.out", "w", encoding="utf-8") as log:
                daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
            stack.callback(_stop, daemon)
            daemons.append(daemon)
            if command is munged:
                _wait(lambda: (folder / "munge.socket").exists(), daemons, folder)
        _wait(lambda: _said(["sinfo", "--noheader", "--format=%T"], environment) == "idle", daemons, folder)
        stack.callback(_said, ["scancel", "--user", user], environment)
        yield environment


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _said(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout.strip()


def _stop(daemon: subprocess.Popen) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _wait(is_so, daemons: list[subprocess.Popen], folder: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end or any(daemon.poll() is not None for daemon in daemons):
            logs = {path.name: path.read_text(errors="replace")[-1500:] for path in folder.glob("*.out")}
            raise RuntimeError(f"SLURM did not start: {logs}")
        time.sleep(0.2)
