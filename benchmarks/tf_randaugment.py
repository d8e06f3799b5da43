"""RandAugment in TensorFlow's ops, to compare ours in OpenCV with.

The operations and their strengths are those of the scale 'tensorflow' of
`coatnet_jax.data.randaugment`, whose docstring has the table. Not for training.
"""

import math

import tensorflow as tf

_GREY = 128.0


def apply_randaugment(
  image: tf.Tensor, num_layers: int, magnitude: float
) -> tf.Tensor:
  """Applies randomly chosen operations, one after the other.

  Args:
    image: [H, W, 3] uint8, of static shape.
    num_layers: number of operations per image.
    magnitude: strength of the operations, 0 to 30.

  Returns:
    [H, W, 3] uint8.
  """
  for _ in range(num_layers):
    number = tf.random.uniform([], 0, len(OPERATIONS), tf.int32)
    sign = tf.where(tf.random.uniform([]) < 0.5, 1.0, -1.0)
    place = tf.random.uniform([2])
    branches = [
      lambda op=op, args=(image, magnitude, sign, place): op(*args)
      for op in OPERATIONS.values()
    ]
    shape = image.shape
    image = tf.switch_case(number, branches)
    image.set_shape(shape)
  return image


def _auto_contrast(image, magnitude, sign, place):
  del magnitude, sign, place
  values = tf.cast(image, tf.float32)
  low = tf.reduce_min(values, [0, 1])
  high = tf.reduce_max(values, [0, 1])
  scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1.0)
  return _to_uint8((values - tf.where(high > low, low, 0.0)) * scale)


def _equalize(image, magnitude, sign, place):
  del magnitude, sign, place
  return tf.stack([_equalize_channel(image[..., i]) for i in range(3)], -1)


def _equalize_channel(channel):
  histogram = tf.math.bincount(
    tf.reshape(tf.cast(channel, tf.int32), [-1]), minlength=256, maxlength=256
  )
  total = tf.reduce_sum(histogram)
  first = histogram[tf.argmax(tf.cast(histogram > 0, tf.int32))]
  ranks = tf.cast(tf.cumsum(histogram) - first, tf.float32)
  levels = ranks * 255 / tf.cast(tf.maximum(total - first, 1), tf.float32)
  equalized = tf.gather(_to_uint8(levels), tf.cast(channel, tf.int32))
  return tf.where(total == first, channel, equalized)


def _invert(image, magnitude, sign, place):
  del magnitude, sign, place
  return 255 - image


def _rotate(image, magnitude, sign, place):
  del place
  height, width = image.shape[:2]
  angle = sign * magnitude * (3 * math.pi / 180)
  cos, sin = tf.cos(angle), tf.sin(angle)
  x, y = (width - 1) / 2, (height - 1) / 2
  return _warp(
    image, [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]
  )


def _posterize(image, magnitude, sign, place):
  del sign, place
  step = 2 ** max(0, 8 - int(0.4 * magnitude))
  values = tf.cast(image, tf.int32)
  return tf.cast(values // step * step, tf.uint8)


def _solarize(image, magnitude, sign, place):
  del sign, place
  threshold = int(25.6 * magnitude)
  return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def _solarize_add(image, magnitude, sign, place):
  del sign, place
  values = tf.cast(image, tf.float32)
  return tf.where(image < 128, _to_uint8(values + int(11 * magnitude)), image)


def _cutout(image, magnitude, sign, place):
  del sign
  height, width = image.shape[:2]
  row = tf.floor(place[0] * height)
  column = tf.floor(place[1] * width)
  half_side = float(int(4 * magnitude))

  def is_inside(coordinates, center):
    return (coordinates >= center - half_side) & (
      coordinates < center + half_side
    )

  rows = is_inside(tf.range(height, dtype=tf.float32), row)
  columns = is_inside(tf.range(width, dtype=tf.float32), column)
  mask = rows[:, None, None] & columns[None, :, None]
  return tf.where(mask, tf.constant(int(_GREY), tf.uint8), image)


def _color(image, magnitude, sign, place):
  del sign, place
  grey = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
  return _blend(tf.cast(grey, tf.float32), image, _factor(magnitude))


def _contrast(image, magnitude, sign, place):
  del sign, place
  grey = tf.cast(tf.image.rgb_to_grayscale(image), tf.float32)
  return _blend(tf.reduce_mean(grey), image, _factor(magnitude))


def _brightness(image, magnitude, sign, place):
  del sign, place
  return _to_uint8(tf.cast(image, tf.float32) * _factor(magnitude))


def _sharpness(image, magnitude, sign, place):
  del sign, place
  values = tf.cast(image, tf.float32)[None]
  kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13
  kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
  padded = tf.pad(values, [[0, 0], [1, 1], [1, 1], [0, 0]], 'REFLECT')
  smooth = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], 'VALID')
  return _blend(smooth[0], image, _factor(magnitude))


def _shear_x(image, magnitude, sign, place):
  del place
  shear = sign * 0.03 * magnitude
  middle = (image.shape[0] - 1) / 2
  return _warp(image, [1, -shear, shear * middle, 0, 1, 0])


def _shear_y(image, magnitude, sign, place):
  del place
  shear = sign * 0.03 * magnitude
  middle = (image.shape[1] - 1) / 2
  return _warp(image, [1, 0, 0, -shear, 1, shear * middle])


def _translate_x(image, magnitude, sign, place):
  del place
  shift = sign * 10 * magnitude
  return _warp(image, [1, 0, -shift, 0, 1, 0])


def _translate_y(image, magnitude, sign, place):
  del place
  shift = sign * 10 * magnitude
  return _warp(image, [1, 0, 0, 0, 1, -shift])


def _factor(magnitude):
  return 0.1 + 0.18 * magnitude


def _blend(other, image, factor):
  """Moves `image` away from `other`, or towards it."""
  values = tf.cast(image, tf.float32)
  return _to_uint8(other + factor * (values - other))


def _to_uint8(values):
  return tf.cast(tf.round(tf.clip_by_value(values, 0.0, 255.0)), tf.uint8)


def _warp(image, matrix):
  """Takes each pixel (x, y) from `matrix` times (x, y, 1), bilinearly."""
  transform = tf.stack([tf.cast(x, tf.float32) for x in (*matrix, 0, 0)])
  return tf.raw_ops.ImageProjectiveTransformV3(
    images=image[None],
    transforms=transform[None],
    output_shape=tf.constant(image.shape[:2].as_list(), tf.int32),
    interpolation='BILINEAR',
    fill_mode='CONSTANT',
    fill_value=_GREY,
  )[0]


OPERATIONS = {
  'AutoContrast': _auto_contrast,
  'Equalize': _equalize,
  'Invert': _invert,
  'Rotate': _rotate,
  'Posterize': _posterize,
  'Solarize': _solarize,
  'SolarizeAdd': _solarize_add,
  'Color': _color,
  'Contrast': _contrast,
  'Brightness': _brightness,
  'Sharpness': _sharpness,
  'ShearX': _shear_x,
  'ShearY': _shear_y,
  'TranslateX': _translate_x,
  'TranslateY': _translate_y,
  'Cutout': _cutout,
}
