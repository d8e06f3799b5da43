"""The whole training of a model once more, to compare the project's with.

It shares no code with the project: it takes pictures, initial parameters and a
config (`case.py`), and gives every number that a run has: pictures and labels
of each batch, loss, learning rate and gradient norm of each step, then each
parameter, statistic and average, the optimizer's averages, and an evaluation.
It is written as plainly as can be, in NumPy with OpenCV's resizing, warping and
filtering (`augmentation.py`, `randaugment.py`), and in PyTorch with float64
(`network.py`, `training.py`). What is random is drawn from the generators that
the project uses, NumPy's Philox and `jax.random`, seeded and keyed by rules
that are stated here anew (`draws.py`).

`tests/golden/train_step.npz` holds what it gives for the case, and digests for
the case with one thing changed (`case.py` lists them: an option that is off, a
rule that is broken). Made anew, with requirements-parity.txt, by

    python -m tests.golden.make_train_step_golden

Whoever changes what a run computes changes it here too, from the paper or the
text that defines it, not from the project's code, and makes the file anew.
`tests/whole_train_step_test.py` compares a run of the project with it, without
PyTorch; `tests/parity/train_step_live_test.py` computes it live.
"""
