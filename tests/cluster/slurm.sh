#!/usr/bin/env bash
# One node of Slurm on this machine, for tests: `slurm.sh start`, `slurm.sh stop`.
#
# Needs root and Debian's packages (`slurm.sh install`: slurm-wlm, munge). There is no systemd and no
# accounting; memory is watched, and a job over its share is killed; the two GPUs are fakes, of which
# Slurm knows no more than that they are there. The configuration lies in /etc/slurm, since SLURM_CONF
# does not reach the jobs; one that this script has not written is left alone, and is an error.
set -euo pipefail
CONF=/etc/slurm
STATE=/tmp/prunegrid-slurm
MARK="# Written by prunegrid's tests/cluster/slurm.sh"

install_packages() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
}

require() {
    [ "$(id -u)" = 0 ] || { echo "starting Slurm needs root"; exit 3; }
    for name in slurmctld slurmd munged sbatch; do
        command -v "$name" >/dev/null || { echo "$name is not installed (tests/cluster/slurm.sh install)"; exit 3; }
    done
    if [ -e "$CONF/slurm.conf" ] && ! grep -q "^$MARK" "$CONF/slurm.conf"; then
        echo "$CONF/slurm.conf is not of this script: there is another Slurm here"
        exit 3
    fi
}

configure() {
    mkdir -p "$CONF" "$STATE/ctld" "$STATE/slurmd"
    local host cores memory
    host=$(hostname -s)
    # nproc would heed OMP_NUM_THREADS.
    cores=$(getconf _NPROCESSORS_ONLN)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cat >"$CONF/slurm.conf" <<CONFIG
$MARK
ClusterName=prunegrid
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/slurmd
AuthType=auth/munge
# No cgroups and no systemd here.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# Jobs get cores and memory; who takes more memory is killed.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
# squeue must still know of ended jobs: there is no accounting to ask.
MinJobAge=3600
KillWait=5
MessageTimeout=60
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONFIG
    printf 'Name=gpu File=%s\n' /dev/zero /dev/null >"$CONF/gres.conf"
}

start() {
    require
    if running slurmctld && running slurmd; then
        echo "Slurm is running"
        return
    fi
    configure
    if ! munge -n >/dev/null 2>&1; then
        mkdir -p /run/munge && chown munge: /run/munge
        [ -s /etc/munge/munge.key ] || mungekey --create
        chown munge: /etc/munge/munge.key
        runuser -u munge -- /usr/sbin/munged --pid-file="/run/munge/munged.pid"
        touch "$STATE/munged"
    fi
    slurmctld
    slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed)'; then
            echo "Slurm is ready: $(sinfo --noheader --Node --format='%N %c cores %m MB %G')"
            return
        fi
        sleep 1
    done
    echo "Slurm did not come up; the ends of its logs:"
    tail -n 20 "$STATE"/*.log
    exit 1
}

# Whether the daemon that this script started is alive.
running() { [ -s "$STATE/$1.pid" ] && kill -0 "$(cat "$STATE/$1.pid")" 2>/dev/null; }

end() {
    running "$1" || return 0
    local pid
    pid=$(cat "$STATE/$1.pid")
    kill "$pid"
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -9 "$pid"
}

stop() {
    if running slurmctld; then
        scancel --user=root 2>/dev/null || true
        for _ in $(seq 30); do
            [ -z "$(squeue --noheader 2>/dev/null)" ] && break
            sleep 0.5
        done
    fi
    end slurmd
    end slurmctld
    if [ -e "$STATE/munged" ] && [ -s /run/munge/munged.pid ]; then
        kill "$(cat /run/munge/munged.pid)" || true
    fi
    if [ -e "$CONF/slurm.conf" ] && grep -q "^$MARK" "$CONF/slurm.conf"; then
        rm -f "$CONF/slurm.conf" "$CONF/gres.conf"
    fi
    rm -rf "$STATE"
}

case "${1:-}" in
    install) install_packages ;;
    start) start ;;
    stop) stop ;;
    *) echo "usage: $0 install|start|stop" && exit 2 ;;
esac
