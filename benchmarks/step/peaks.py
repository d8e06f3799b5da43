"""What a device can compute at most, to say which part of it a step uses."""

from coatnet_jax.tpu_compiler.topologies import CHIPS

# Dense matrix products of bfloat16, and of float32 as JAX computes it by
# default there, in TF32; operations per second. NVIDIA's data sheets and white
# papers. By the whole name: other cards begin with the same ('NVIDIA L40').
_HOPPER = (989e12, 494e12)
_A100 = (312e12, 156e12)
_GPUS = {
  'NVIDIA H200': _HOPPER,
  'NVIDIA H100 80GB HBM3': _HOPPER,
  'NVIDIA H100 PCIe': (756e12, 378e12),
  'NVIDIA A100-SXM4-40GB': _A100,
  'NVIDIA A100-SXM4-80GB': _A100,
  'NVIDIA A100-PCIE-40GB': _A100,
  'NVIDIA A100 80GB PCIe': _A100,
  'NVIDIA A10G': (70e12, 35e12),
  'NVIDIA L40S': (362e12, 183e12),
  'NVIDIA L4': (121e12, 60e12),
  'NVIDIA GeForce RTX 4090': (165e12, 83e12),
  'NVIDIA GeForce RTX 3090': (71e12, 36e12),
}


def find_peak(device_kind: str, dtype: str) -> float | None:
  """Returns a device's operations per second; None where it is not known.

  >>> find_peak('NVIDIA H100 80GB HBM3', 'bfloat16')
  989000000000000.0
  >>> find_peak('TPU v5 lite', 'bfloat16')
  197000000000000.0
  >>> find_peak('cpu', 'float32')

  Args:
    device_kind: JAX's name of the device.
    dtype: compute dtype, 'float32' or 'bfloat16'. A TPU computes both with
      bfloat16 factors by default.
  """
  for chip in CHIPS.values():
    if chip.device_kind == device_kind:
      return chip.peak_flops
  if device_kind in _GPUS:
    return _GPUS[device_kind][dtype == 'float32']
  return None
