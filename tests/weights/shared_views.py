"""Views of one storage, for the writer of views.pth and for its test."""


def cut_views(shared):
  """Returns named views of 24 numbers, an array of NumPy or a tensor."""
  return {
    'whole': shared,
    'part': shared[5:9],
    'steps': shared[3::4],
    'transposed': shared.reshape(2, 3, 4).swapaxes(1, 2).swapaxes(0, 1),
    'column': shared.reshape(4, 6)[:, 2],
    'last': shared[23],
    'same': shared,
  }
