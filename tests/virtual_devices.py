"""Programs that run on several devices, which are threads of the CPU."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]


def run_script(script: str, devices: int, argument: Any) -> Any:
  """Returns what a script prints in its last line, which is JSON.

  Args:
    script: text of a program, which finds its argument in `sys.argv[1]`.
    devices: number of virtual CPU devices that it is to have.
    argument: value to be passed on as JSON.
  """
  env = {
    **os.environ,
    # Threads: eight devices that wait for each other need more than cores.
    'NPROC': '64',
    'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]}'
    f' --xla_force_host_platform_device_count={devices}'
    ' --xla_cpu_collective_call_terminate_timeout_seconds=300'
    # One collective after the other: at once, devices begin them in different
    # orders, and may wait for each other for ever.
    ' --xla_cpu_enable_concurrency_optimized_scheduler=false',
    'PYTHONPATH': str(ROOT),
  }
  process = subprocess.run(
    [sys.executable, '-c', script, json.dumps(argument)],
    env=env,
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 0, process.stderr[-3000:]
  return json.loads(process.stdout.splitlines()[-1])
