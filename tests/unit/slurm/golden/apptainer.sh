#!/bin/bash

#SBATCH --job-name=hr-qwen3-8b
#SBATCH --comment=headrace/1/site-a/c1/qwen3-8b/9644350fe50f/00112233aabbccdd
#SBATCH --reservation=friday
#SBATCH --constraint=[rack1|rack2]&h100
#SBATCH --nodes=2
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --gpus=h100:2
#SBATCH --time=04:00:00
#SBATCH --chdir=/
#SBATCH --output=/dev/null
#SBATCH --open-mode=append
#SBATCH --no-requeue

# Written by Headrace. The exit code of the worker is that of the job.
# Slurm signals everything in a job that it ends: this shell stays to tell the worker's exit code.
trap : TERM

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
srun --nodes=1 --ntasks=1 --kill-on-bad-exit=1 --export=ALL --cpus-per-task=1 -- apptainer exec --nv --bind /models:/models:ro --bind /scratch /images/vllm.sif headrace-worker --config /etc/headrace/worker.toml || code=$?
exit "$code"
