"""A DICOM node that audits PatientAge and PatientSex of chest radiographs. Not a medical device."""
