"""What is found over many studies: identities, stations, listing, statistics, mix-ups.

Pure: studies in, findings out. The rules over one header are in :mod:`dicom_ai_node.rules`, the
campaign that collects the studies of an archive is in :mod:`dicom_ai_node.audit`.
"""
