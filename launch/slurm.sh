#!/usr/bin/env bash
#SBATCH --job-name=coatnet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
# A run under Slurm, one task per process, queued again until it is finished.
#
#   sbatch launch/slurm.sh --config=configs/coatnet_0.py --workdir=/shared/coatnet_0
#
# Options of sbatch on the command line change those above: --nodes=8. JAX reads
# from Slurm who is who. With GPUs, --ntasks-per-node is their number, as JAX
# gives each task one. 300 s before the time is over every task gets SIGTERM, and
# main.py saves and ends with 75.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

status=0
srun --kill-on-bad-exit=1 "${PYTHON:-python}" main.py "$@" || status=$?
if [ "$status" -eq 75 ]; then
  echo 'Stopped and saved; queued again'
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
