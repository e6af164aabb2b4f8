"""Functional groups of Enhanced objects as rich as the standard has them."""

from pydicom import Dataset

from dicom_ai_node.demo.images import uid
from tests.builders.series import item


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def full_groups(n: int) -> Dataset:
    """Return the functional groups of a frame of an Enhanced CT: every macro of PS3.3 A.38.1.4 that
    may stand per frame, with all that it may hold that is no free choice."""
    groups = Dataset()
    groups.FrameContentSequence = [
        item(
            FrameAcquisitionNumber=1,
            FrameReferenceDateTime="20260101101010",
            FrameAcquisitionDateTime="20260101101010",
            FrameAcquisitionDuration=500.0,
            NominalCardiacTriggerDelayTime=1.0,
            StackID="1",
            InStackPositionNumber=n + 1,
            DimensionIndexValues=[1, n + 1],
            TemporalPositionIndex=1,
            FrameComments="X",
            FrameLabel="Y",
        )
    ]
    groups.PlanePositionSequence = [item(ImagePositionPatient=[-200.0, -200.0, -1.0 * n])]
    groups.PlaneOrientationSequence = [item(ImageOrientationPatient=[1.0, 0, 0, 0, 1.0, 0])]
    groups.PixelMeasuresSequence = [item(PixelSpacing=[0.9, 0.9], SliceThickness=1.0)]
    groups.CTImageFrameTypeSequence = [
        item(
            FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
        )
    ]
    groups.CTAcquisitionTypeSequence = [
        item(AcquisitionType="SPIRAL", TubeAngle=0.0, ConstantVolumeFlag="NO", FluoroscopyFlag="NO")
    ]
    groups.CTAcquisitionDetailsSequence = [
        item(
            RotationDirection="CW",
            RevolutionTime=0.5,
            SingleCollimationWidth=0.6,
            TotalCollimationWidth=38.4,
            TableHeight=100.0,
            GantryDetectorTilt=0.0,
            DataCollectionDiameter=500.0,
        )
    ]
    groups.CTTableDynamicsSequence = [
        item(TableSpeed=1.0, TableFeedPerRotation=1.0, SpiralPitchFactor=1.0)
    ]
    groups.CTPositionSequence = [
        item(
            DataCollectionCenterPatient=[0.0, 0, 0],
            ReconstructionTargetCenterPatient=[0.0, 0, 0],
            TablePosition=1.0 * n,
        )
    ]
    groups.CTGeometrySequence = [
        item(DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=500.0)
    ]
    groups.CTReconstructionSequence = [
        item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel="B30",
            ConvolutionKernelGroup="SOFT_TISSUE",
            ReconstructionDiameter=400.0,
            ReconstructionFieldOfView=[400.0, 400.0],
            ReconstructionPixelSpacing=[0.9, 0.9],
            ReconstructionAngle=360.0,
            ImageFilter="X",
        )
    ]
    groups.CTExposureSequence = [
        item(
            ExposureTimeInms=500.0,
            XRayTubeCurrentInmA=200.0,
            ExposureInmAs=100.0,
            ExposureModulationType="NONE",
            EstimatedDoseSaving=1.0,
            CTDIvol=5.0,
            CTDIPhantomTypeCodeSequence=[coded("113691", "DCM", "IEC Body Dosimetry Phantom")],
        )
    ]
    groups.CTXRayDetailsSequence = [
        item(
            KVP="120",
            FocalSpots=[1.0],
            FilterType="NONE",
            FilterMaterial="AL",
            CalciumScoringMassFactorPatient=1.0,
            EnergyWeightingFactor=1.0,
        )
    ]
    groups.PixelValueTransformationSequence = [
        item(RescaleIntercept="-1024", RescaleSlope="1", RescaleType="HU")
    ]
    groups.FrameVOILUTSequence = [
        item(WindowCenter="40", WindowWidth="400", WindowCenterWidthExplanation="soft")
    ]
    groups.FrameAnatomySequence = [
        item(FrameLaterality="U", AnatomicRegionSequence=[coded("816094009", "SCT", "Chest")])
    ]
    groups.IrradiationEventIdentificationSequence = [item(IrradiationEventUID=uid("e", n))]
    groups.CardiacSynchronizationSequence = [
        item(
            NominalPercentageOfCardiacPhase=1.0,
            NominalCardiacTriggerDelayTime=1.0,
            ActualCardiacTriggerDelayTime=1.0,
            NominalCardiacTriggerTimePriorToRPeak=1.0,
            IntervalsAcquired=1,
            IntervalsRejected=0,
            HeartRate=60,
            RRIntervalTimeNominal=1000.0,
        )
    ]
    groups.ContrastBolusUsageSequence = [
        item(
            ContrastBolusAgentNumber=1,
            ContrastBolusAgentAdministered="YES",
            ContrastBolusAgentDetected="YES",
            ContrastBolusAgentPhase="X",
        )
    ]
    groups.ReferencedImageSequence = [
        item(
            ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
            ReferencedSOPInstanceUID=uid("ref"),
            ReferencedFrameNumber=1,
            PurposeOfReferenceCodeSequence=[coded("121311", "DCM", "Localizer")],
        )
    ]
    groups.DerivationImageSequence = [
        item(
            DerivationDescription="X",
            DerivationCodeSequence=[coded("113072", "DCM", "Multiplanar reformatting")],
            SourceImageSequence=[
                item(
                    ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
                    ReferencedSOPInstanceUID=uid("src"),
                    PurposeOfReferenceCodeSequence=[
                        coded("121322", "DCM", "Source image for image processing operation")
                    ],
                )
            ],
        )
    ]
    return groups
