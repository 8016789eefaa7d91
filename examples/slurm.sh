#!/bin/sh
# One run of an encoder on a task, on several machines of a Slurm cluster:
#   sbatch examples/slurm.sh --task ssv2 --model vitl16.pth.tar --data /data/ssv2 --cache /shared/cache
# The same command again goes on with what is in the cache. docs/scale.md says what is divided.
#SBATCH --job-name=bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=12:00:00
#SBATCH --requeue

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

exec srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:29500" \
    -m bench run "$@"
