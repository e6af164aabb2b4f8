"""Training, calibration, evaluation and packing of the networks; imports dicom_ai_node."""
