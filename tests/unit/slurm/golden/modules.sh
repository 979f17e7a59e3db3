#!/bin/bash

#SBATCH --job-name=hr-qwen3-8b
#SBATCH --comment=headrace/1/site-a/c1/qwen3-8b/9644350fe50f/00112233aabbccdd
#SBATCH --account=ml
#SBATCH --partition=gpu,gpu_low
#SBATCH --qos=scavenger
#SBATCH --exclude=gpu7,gpu9
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:a100:2
#SBATCH --mem=120G
#SBATCH --time=1-12:00:00
#SBATCH --time-min=02:00:00
#SBATCH --nice=100
#SBATCH --signal=TERM@120
#SBATCH --chdir=/
#SBATCH --output=/scratch/headrace/%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --licenses=scratch
#SBATCH --exclusive

# Written by Headrace. The exit code of the worker is that of the job.
# Slurm signals everything in a job that it ends: this shell stays to tell the worker's exit code.
trap : TERM

if ! type module >/dev/null 2>&1; then
  for file in "${LMOD_PKG:-/none}/init/bash" "${MODULESHOME:-/none}/init/bash" \
    /etc/profile.d/z00_lmod.sh /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
    if [ -r "$file" ]; then . "$file"; break; fi
  done
fi
module load gcc/13.2 cuda/12.4 || exit 1
. /opt/headrace/venv/bin/activate || exit 1
export HF_HOME=/scratch/hf
ulimit -n "$(ulimit -Hn)"

set -euo pipefail

export HEADRACE_INSTALLATION=site-a
export HEADRACE_CLUSTER=c1
export HEADRACE_MODEL=qwen3-8b
export HEADRACE_SUBMISSION=00112233aabbccdd
export HEADRACE_WORKER__SLOTS=64

ask=(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e)
ends_at=$(SLURM_TIME_FORMAT=%s timeout 60 "${ask[@]}") || ends_at=
[[ $ends_at =~ ^[0-9]+$ ]] || ends_at=${SLURM_JOB_END_TIME:-}
if [[ $ends_at =~ ^[0-9]+$ ]]; then export HEADRACE_WORKER__ENDS_AT=$ends_at; fi

code=0
srun --nodes=1 --ntasks=1 --kill-on-bad-exit=1 --export=ALL --cpus-per-task=16 -- headrace-worker --config /etc/headrace/worker.toml || code=$?
exit "$code"
