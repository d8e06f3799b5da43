"""JPEG files that are as much work as ImageNet's, made without ImageNet.

Amplitudes fall with the spatial frequency, as those of photographs do, and the
files are of ImageNet's usual size: 500x375 pixels, about 110 kB, half the
colour resolution. What they show means nothing.
"""

import cv2
import numpy as np

HEIGHT, WIDTH = 375, 500
# Gives about 110 kB.
_QUALITY = 88
# Deviations of brightness, and of two colour differences, from the mean.
_DEVIATIONS = (55, 15, 15)


def generate_jpegs(count: int, seed: int = 0) -> list[bytes]:
  """Returns files, the same ones for the same seed.

  Args:
    count: number of files; each takes about 50 ms.
    seed: seed of the noise.
  """
  rng = np.random.default_rng(seed)
  parameters = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
  return [
    cv2.imencode('.jpg', _generate_pixels(rng), parameters)[1].tobytes()
    for _ in range(count)
  ]


def _generate_pixels(rng: np.random.Generator) -> np.ndarray:
  """Returns [375, 500, 3] uint8 of noise with amplitudes as 1 / frequency."""
  frequencies = np.hypot(
    np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
  )
  frequencies = np.maximum(frequencies, 1 / WIDTH)
  planes = []
  for deviation in _DEVIATIONS:
    parts = rng.standard_normal((2, *frequencies.shape)) / frequencies
    plane = np.fft.irfft2(parts[0] + 1j * parts[1], (HEIGHT, WIDTH))
    planes.append(plane * (deviation / plane.std()))
  brightness, blue, red = planes
  pixels = np.stack([brightness + blue, brightness, brightness + red], -1)
  return np.clip(128 + pixels, 0, 255).astype(np.uint8)
