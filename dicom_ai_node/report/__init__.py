"""`StudyResult` + source headers -> Structured Report or Secondary Capture, and its check.

The only package that imports highdicom. Nothing is re-exported here: ``identity`` and ``copies``
have to be importable where highdicom must not be loaded (delivery, filling).
"""
