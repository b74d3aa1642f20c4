#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=0-3
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sweep_%A_%a.log

# Two minutes before its time is up, SLURM sends SIGUSR1 to what srun started: the run saves and ends with 128 + 10.
srun python train.py "$SLURM_ARRAY_TASK_ID" "$@"
ended=$?
if [ "$ended" -eq 138 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    exit
fi
exit "$ended"
