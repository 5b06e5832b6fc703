#!/usr/bin/env bash
# A SLURM cluster of one node, for tests: munge, slurmctld and slurmd from Debian's packages, all files in FOLDER.
#   slurm.sh start FOLDER    then SLURM_CONF=FOLDER/slurm.conf and PATH=FOLDER/bin:$PATH reach it
#   slurm.sh stop FOLDER     ends its jobs and daemons; the folder stays
# Root gives the node a host name of its own, so that jobs run on "another host" than their Snakemake.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

fail() { echo "error: $*" >&2; exit 1; }

[ $# -eq 2 ] || fail "usage: slurm.sh start|stop FOLDER"
mkdir -p "$2"
FOLDER=$(cd "$2" && pwd)
export SLURM_CONF="$FOLDER/slurm.conf"

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Wait up to 30 s for a command to succeed.
wait_for() {
  for _ in $(seq 150); do
    if "$@" > "$FOLDER/wait.log" 2>&1; then return 0; fi
    sleep 0.2
  done
  tail -n 3 -q "$FOLDER"/*.log >&2 || true
  fail "waited 30 s for: $*"
}

node_is_up() { sinfo --noheader --format %T | grep -q -E '^(idle|mixed|allocated)$'; }

start() {
  for program in munged slurmctld slurmd sbatch; do
    command -v $program > /dev/null || fail "$program is missing: apt-get install slurmctld slurmd munge"
  done
  local node alone=()
  node=$(hostname -s)
  if unshare --uts true 2> /dev/null; then
    node=sspo-node
    alone=(unshare --uts sh -c 'hostname sspo-node && exec "$@"' sh)
  fi

  mkdir -p "$FOLDER/state" "$FOLDER/spool" "$FOLDER/bin"
  # The executor takes SLURM_CONF away from the srun of its job step.
  printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$FOLDER/bin/srun"
  chmod +x "$FOLDER/bin/srun"
  dd if=/dev/urandom of="$FOLDER/munge.key" bs=128 count=1 status=none
  chmod 400 "$FOLDER/munge.key"
  cat > "$SLURM_CONF" <<CONF
ClusterName=sspo
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
# No cgroups: a container has none to give away.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
KillWait=2
GresTypes=gpu
# Whatever the machine has, it says it has four CPUs.
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 Port=$(free_port) CPUs=4 RealMemory=16000 Gres=gpu:1
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
  # The one "GPU" is a device that every machine has; nothing computes on it.
  echo "Name=gpu File=/dev/zero" > "$FOLDER/gres.conf"
  echo "CgroupPlugin=cgroup/v1" > "$FOLDER/cgroup.conf"

  # Forced, as it dislikes folders that only their owner can enter.
  munged --force --socket="$FOLDER/munge.socket" --key-file="$FOLDER/munge.key" --num-threads=2 \
    --pid-file="$FOLDER/munged.pid" --log-file="$FOLDER/munged.log" --seed-file="$FOLDER/munge.seed"
  slurmctld
  wait_for scontrol ping
  "${alone[@]}" slurmd
  wait_for node_is_up
}

stop() {
  if [ -e "$SLURM_CONF" ]; then
    timeout 10 scancel --user "$(id -un)" || true
    for _ in $(seq 50); do
      [ -n "$(timeout 5 squeue --noheader 2> /dev/null)" ] || break
      sleep 0.2
    done
  fi
  for daemon in slurmd slurmctld munged; do
    [ -s "$FOLDER/$daemon.pid" ] || continue
    pid=$(cat "$FOLDER/$daemon.pid")
    kill "$pid" 2> /dev/null || continue
    for _ in $(seq 50); do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.2
    done
    kill -9 "$pid" 2> /dev/null || true
  done
  # Without cgroups a job's processes can outlive it.
  for folder in /proc/[0-9]*; do
    if grep -qzxF "SLURM_CONF=$SLURM_CONF" "$folder/environ" 2> /dev/null &&
      grep -qz '^SLURM_JOB_ID=' "$folder/environ" 2> /dev/null; then
      kill -9 "${folder#/proc/}" 2> /dev/null || true
    fi
  done
}

case "$1" in
  start) start ;;
  stop) stop ;;
  *) fail "usage: slurm.sh start|stop FOLDER" ;;
esac
