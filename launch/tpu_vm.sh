#!/usr/bin/env bash
# Trains on Cloud TPU VMs, one slice or several, until the run is finished: asks
# for the capacity, waits in the queue, installs, starts main.py on every worker,
# and begins again after a preemption.
#
#   NAME=coatnet ZONE=us-west4-a TYPE=v5litepod-64 VERSION=v2-alpha-tpuv5-lite \
#     launch/tpu_vm.sh --config=configs/coatnet_0.py --workdir=gs://BUCKET/coatnet_0
#
# NAME     of the queued resource and, with a number after it, of its nodes
# ZONE     where the capacity is
# TYPE     accelerator type of one slice
# VERSION  runtime version of its machines
# SLICES   number of slices; 1
# TIER     --spot, --reserved, --guaranteed, or empty for on-demand; --spot
# KEEP     1 leaves the machines when the run has finished; they are deleted
#
# All arguments are main.py's. What is here is copied to every worker as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${NAME:?}" "${ZONE:?}" "${TYPE:?}" "${VERSION:?}"
slices=${SLICES:-1}
tier=${TIER---spot}
poll_seconds=${POLL_SECONDS:-60}
# As many runs in a row that end within this time are an error, no preemption.
short_seconds=${SHORT_SECONDS:-600}
max_short_runs=3

tpus() { gcloud compute tpus "$@" --zone="$ZONE" --quiet; }

state() { tpus queued-resources describe "$NAME" --format='value(state.state)' 2> /dev/null || echo NONE; }

create() {
  local nodes=(--node-id="$NAME-0")
  [ "$slices" -eq 1 ] || nodes=(--node-count="$slices" --node-prefix="$NAME")
  echo "Asking for $slices x $TYPE in $ZONE ${tier:-on demand}"
  # shellcheck disable=SC2086  # No tier is no argument.
  tpus queued-resources create "$NAME" $tier "${nodes[@]}" \
    --accelerator-type="$TYPE" --runtime-version="$VERSION"
}

# With one node or several, they are NAME-0, NAME-1, ...
nodes() { for ((i = 0; i < slices; i++)); do echo "$NAME-$i"; done; }

# on_all COMMAND...: runs gcloud's COMMAND for every node at once; fails with the
# first that failed.
on_all() {
  local node pids=() status=0
  for node in $(nodes); do
    "$@" "$node" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=${status/#0/$?}; done
  return "$status"
}

install_on() {
  tpus tpu-vm ssh "$1" --worker=all --command='mkdir -p coatnet_jax_run' &&
  tpus tpu-vm scp --worker=all --recurse main.py train.py configs coatnet_jax \
    requirements.txt "$1:coatnet_jax_run/" &&
  # With a Python of its own, as the machine's may be too old; a second time this
  # changes nothing.
  tpus tpu-vm ssh "$1" --worker=all --command='cd coatnet_jax_run &&
    python3 -m pip install --quiet --user uv &&
    ~/.local/bin/uv venv --quiet --allow-existing --python=3.11 .venv &&
    ~/.local/bin/uv pip install --quiet --python=.venv/bin/python \
      -r requirements.txt "jax[tpu]"'
}

# As a service of the machine, which is sent SIGTERM when the machine is taken
# away: main.py then saves, on all workers. Only main.py gets it, not the
# processes that decode images.
train_on() {
  local arguments
  printf -v arguments '%q ' "${main_arguments[@]}"
  tpus tpu-vm ssh "$1" --worker=all --command="
    sudo systemctl stop coatnet_jax 2> /dev/null
    sudo systemd-run --unit=coatnet_jax --collect --wait --pipe --quiet \
      --uid=\$(id -u) --working-directory=\$HOME/coatnet_jax_run \
      --property=KillMode=mixed --property=TimeoutStopSec=300 \
      --property=LimitMEMLOCK=infinity \
      --setenv=HOME=\$HOME --setenv=PYTHONUNBUFFERED=1 \
      \$HOME/coatnet_jax_run/.venv/bin/python main.py $arguments"
}

main_arguments=("$@")
short_runs=0
while true; do
  case $(state) in
    ACTIVE) ;;
    NONE) create; continue ;;
    SUSPENDED | FAILED)
      echo 'The capacity is gone; asking again'
      tpus queued-resources delete "$NAME" --force
      continue
      ;;
    *) sleep "$poll_seconds"; continue ;;
  esac
  started=$SECONDS
  status=0
  { on_all install_on && on_all train_on; } || status=$?
  if [ "$status" -eq 0 ]; then
    echo 'The run is finished'
    [ "${KEEP:-}" = 1 ] || tpus queued-resources delete "$NAME" --force
    exit 0
  fi
  short_runs=$((SECONDS - started < short_seconds ? short_runs + 1 : 0))
  # A preemption shows a moment after it has ended the run.
  sleep "$poll_seconds"
  if [ "$(state)" != ACTIVE ]; then
    short_runs=0
  elif [ "$short_runs" -ge "$max_short_runs" ]; then
    echo "$max_short_runs runs in a row ended with an error; the machines are left" >&2
    exit "$status"
  fi
done
