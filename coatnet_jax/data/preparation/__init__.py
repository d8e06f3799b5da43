"""Archives and folders of images to TFDS data sets in ArrayRecord.

Run by `tools/prepare.py`; training reads what it wrote through the `tfds`
source and imports nothing of this.
"""
