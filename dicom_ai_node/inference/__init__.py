"""Networks, bundles and the engine that turns normalised images into calibrated predictions.

The only package that imports torch; :mod:`dicom_ai_node.inference.bundle` does without it.
"""
