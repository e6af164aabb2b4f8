"""Networks, bundles and the engine that turns normalised images into calibrated predictions.

The only package that imports torch, and :mod:`dicom_ai_node.inference.engine` does without it on a
CPU.
"""
