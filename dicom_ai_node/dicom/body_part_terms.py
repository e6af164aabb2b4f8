"""The defined terms of BodyPartExamined (PS3.16 table L-1), each with its SNOMED CT code.

A row is a term, the code of the concept in CID 4, and the meaning; ``*`` before it says that the
part is one of a pair. The areas that rows stand below say where on the body the part is. Terms of
earlier editions (ARM, JAW, LEG and FETAL...) stay: headers that were right when they were written
are not wrong today. Where CID 4 gave a concept another code since, it is the newer one.
"""

from collections.abc import Mapping

EVERYWHERE = (
    "head neck shoulder arm elbow forearm hand chest breast abdomen pelvis hip thigh knee leg foot"
)
"""Every area, from head to foot; the arms beside the chest."""

TERMS: Mapping[str, str] = {
    "head": """
        HEAD 69536005 Head
        BRAIN 12738006 Brain
        SKULL 89546000 Skull
        FACE 89545001 Face
        *ORBIT 363654007 Orbital structure
        *EYE 81745001 Eye
        *EYELID 80243003 Eyelid
        *CORNEA 28726007 Cornea
        *SCLERA 18619003 Sclera
        *EAR 117590005 Ear
        *EAC 84301002 External auditory canal
        *IAC 361078006 Internal Auditory Canal
        *MASTOID 59066005 Mastoid bone
        *OPTICCANAL 55024004 Optic canal
        *TMJ 53620006 Temporomandibular joint
        *ZYGOMA 13881006 Zygoma
        *CHEEK 60819002 Cheek
        MAXILLA 70925003 Maxilla
        MANDIBLE 91609006 Mandible
        JAW 661005 Jaw region
        MOUTH 123851003 Mouth
        TONGUE 21974007 Tongue
        NOSE 45206002 Nose
        ENDONASAL 53342003 Endo-nasal
        SCALP 41695006 Scalp
        FONTANEL 79361005 Fontanel of skull
        SELLA 42575006 Sella turcica
        INTRACRANIAL 1101003 Intracranial
        CEREBELLUM 113305005 Cerebellum
        CEREBHEMISPHERE 372073000 Cerebral hemisphere
        THALAMUS 42695009 Thalamus
        CHOROIDPLEXUS 80621003 Choroid plexus
        LATVENTRICLE 66720007 Lateral Ventricle
        3RDVENTRICLE 49841001 Third ventricle
        4THVENTRICLE 35918002 Fourth ventricle
        CIRCLEOFWILLIS 11279006 Circle of Willis
        ACA 60176003 Anterior cerebral artery
        MCA 17232002 Middle cerebral artery
        PCA 70382005 Posterior cerebral artery
        ANTCOMMA 8012006 Anterior communicating artery
        POSCOMMA 43119007 Posterior communicating artery
        BASILARA 59011009 Basilar artery
        CEREBRALA 88556005 Cerebral artery
        FACIALA 23074001 Facial artery
        LACRIMALA 59749000 Lacrimal artery
        OPHTHALMICA 53549008 Ophthalmic artery
        OCCPITALA 31145008 Occipital artery
        OCCIPTALV 32114007 Occipital vein
        """,
    "head neck": """
        HEADNECK 774007 Head and Neck
        NASOPHARYNX 360955006 Nasopharynx
        ENDONASOPHARYNYX 18962004 Endo-nasopharyngeal
        PHARYNX 54066008 Pharynx
        PHARYNXLARYNX 312535008 Pharynx and larynx
        *PAROTID 45289007 Parotid gland
        *SUBMANDIBULAR 54019009 Submandibular gland
        CAROTID 69105007 Carotid Artery
        BULB 21479005 Carotid bulb
        ECA 22286001 External carotid artery
        ICA 86117002 Internal carotid artery
        LINGUALA 113264009 Lingual artery
        VERTEBRALA 85234005 Vertebral artery
        INTJUGULARV 12123001 Internal jugular vein
        EXTJUGV 71585003 External jugular vein
        """,
    "neck": """
        NECK 45048000 Neck
        CSPINE 122494005 Cervical spine
        LARYNX 4596009 Larynx
        HYPOPHARYNX 81502006 Hypopharynx
        THYROID 69748006 Thyroid
        PARATHYROID 111002 Parathyroid
        SUPTHYROIDA 72021004 Superior thyroid artery
        """,
    "neck chest": """
        NECKCHEST 417437006 Neck and Chest
        CTSPINE 1217257000 Cervico-thoracic spine
        CCA 32062004 Common carotid artery
        TRACHEA 44567001 Trachea
        SUPRACLAVICULAR 77621008 Supraclavicular region of neck
        """,
    "neck chest abdomen": """
        NECKCHESTABDOMEN 416152001 Neck, Chest and Abdomen
        ESOPHAGUS 32849002 Esophagus
        ENDOESOPHAGEAL 32849002 Endo-esophageal
        """,
    "neck chest abdomen pelvis": """
        NECKCHESTABDPELV 416319003 Neck, Chest, Abdomen and Pelvis
        SPINE 421060004 Spine
        SPINALCORD 2748008 Spinal cord
        BACK 77568009 Back
        """,
    "chest": """
        CHEST 816094009 Chest
        THORAX 816094009 Thorax
        *LUNG 39607008 Lung
        HEART 80891009 Heart
        ENDOCARDIAC 80891009 Endo-cardiac
        MEDIASTINUM 72410000 Mediastinum
        BRONCHUS 955009 Bronchus
        TRACHEABRONCHUS 110726009 Trachea and bronchus
        THYMUS 9875009 Thymus
        TSPINE 122495006 Thoracic spine
        *RIB 113197003 Rib
        STERNUM 56873002 Sternum
        PARASTERNAL 91691001 Parasternal
        ASCAORTA 54247002 Ascending aorta
        AORTICARCH 57034009 Aortic arch
        THORACICAORTA 113262008 Thoracic aorta
        CORONARYARTERY 41801008 Coronary artery
        CORONARYSINUS 90219004 Coronary sinus
        ANTCARDIACV 194996006 Anterior cardiac vein
        LATRIUM 82471001 Left atrium
        RATRIUM 73829009 Right atrium
        LVENTRICLE 87878005 Left ventricle
        RVENTRICLE 53085002 Right ventricle
        PULMONARYA 81040000 Pulmonary artery
        LPULMONARYA 50408007 Left pulmonary artery
        RPULMONARYA 78480002 Right pulmonary artery
        PULMONARYV 122972007 Pulmonary vein
        LSUPPULMONARYV 43863001 Superior left pulmonary vein
        RSUPPULMONARYV 8629005 Superior right pulmonary vein
        INTMAMMARYA 69327007 Internal mammary artery
        SVC 48345005 Superior vena cava
        AZYGOSVEIN 72107004 Azygos vein
        """,
    "breast chest": """
        *BREAST 76752008 Breast
        """,
    "neck shoulder chest": """
        INNOMINATEA 12691009 Innominate artery
        INNOMINATEV 8887007 Innominate vein
        SUBCLAVIANA 36765005 Subclavian artery
        SUBCLAVIANV 9454009 Subclavian vein
        *SCJOINT 7844006 Sternoclavicular joint
        """,
    "shoulder chest": """
        *CLAVICLE 51299004 Clavicle
        *SCAPULA 79601000 Scapula
        *AXILLA 91470000 Axilla
        AXILLARYA 67937003 Axillary Artery
        AXILLARYV 68705008 Axillary vein
        """,
    "shoulder": """
        *SHOULDER 16982005 Shoulder
        *ACJOINT 85856004 Acromioclavicular joint
        """,
    "shoulder arm elbow": """
        *HUMERUS 85050009 Humerus
        """,
    "arm": """
        *UPPERARM 40983000 Upper arm
        """,
    "arm elbow forearm": """
        *ARM 40983000 Upper arm
        BRACHIALA 17137000 Brachial artery
        BRACHIALV 20115005 Brachial vein
        CEPHALICV 20699002 Cephalic vein
        """,
    "elbow": """
        *ELBOW 16953009 Elbow joint
        ANTECUBITALV 128553008 Antecubital vein
        """,
    "elbow forearm hand": """
        *RADIUS 62413002 Radius
        *ULNA 23416004 Ulna
        *RADIUSULNA 110535000 Radius and ulna
        RADIALA 45631007 Radial artery
        ULNARA 44984001 Ulnar artery
        """,
    "forearm": """
        *FOREARM 14975008 Forearm
        """,
    "forearm hand": """
        *WRIST 74670003 Wrist joint
        """,
    "hand": """
        *HAND 85562004 Hand
        *FINGER 7569003 Finger
        *THUMB 76505004 Thumb
        """,
    "shoulder arm elbow forearm hand": """
        *UPPERLIMB 53120007 Upper limb
        """,
    "chest abdomen": """
        CHESTABDOMEN 416550000 Chest and Abdomen
        TLSPINE 1217256009 Thoraco-lumbar spine
        DESCAORTA 32672002 Descending aorta
        SUBCOSTAL 19695001 Subcostal
        """,
    "chest abdomen pelvis": """
        CHESTABDPELVIS 416775004 Chest, Abdomen and Pelvis
        AORTA 15825003 Aorta
        INFVENACAVA 64131007 Inferior vena cava
        """,
    "abdomen": """
        ABDOMEN 818981001 Abdomen
        LIVER 10200004 Liver
        SPLEEN 78961009 Spleen
        PANCREAS 15776009 Pancreas
        *KIDNEY 64033007 Kidney
        ENDORENAL 64033007 Endo-renal
        *ADRENAL 23451007 Adrenal gland
        GALLBLADDER 28231008 Gallbladder
        BILEDUCT 28273000 Bile duct
        BILIARYTRACT 34707002 Biliary tract
        COMMONBILEDUCT 79741001 Common bile duct
        PANCREATICDUCT 69930009 Pancreatic duct
        PANCBILEDUCT 110621006 Pancreatic duct and bile duct systems
        STOMACH 69695003 Stomach
        DUODENUM 38848004 Duodenum
        JEJUNUM 21306003 Jejunum
        TRANSVERSECOLON 485005 Transverse colon
        EPIGASTRIC 27947004 Epigastric region
        LHYPOCHONDRIAC 133945003 Left hypochondriac region
        RHYPOCHONDRIAC 133946002 Right hypochondriac region
        LUQ 86367003 Left upper quadrant of abdomen
        RUQ 50519007 Right upper quadrant of abdomen
        MORISONSPOUCH 243977002 Morisons pouch
        CELIACA 57850000 Celiac artery
        GASTRICV 110568007 Gastric vein
        HEPATICA 76015000 Hepatic artery
        HEPATICV 8993003 Hepatic vein
        LHEPATICV 273202007 Left hepatic vein
        MIDHEPATICV 273099000 Middle hepatic vein
        RHEPATICV 272998002 Right hepatic vein
        PORTALV 32764006 Portal vein
        LPORTALV 70253006 Left portal vein
        RPORTALV 73931004 Right portal vein
        SPLENICA 22083002 Splenic artery
        SPLENICV 35819009 Splenic vein
        SMA 42258001 Superior mesenteric artery
        RENALA 2841007 Renal artery
        RENALV 56400007 Renal vein
        UPRURINARYTRACT 431491007 Upper urinary tract
        """,
    "abdomen pelvis": """
        ABDOMENPELVIS 818982008 Abdomen and Pelvis
        LSPINE 122496007 Lumbar spine
        LSSPINE 1217253001 Lumbo-sacral spine
        LUMBAR 52612000 Lumbar region
        LLUMBAR 1017210004 Left lumbar region
        RLUMBAR 1017211000 Right lumbar region
        LLQ 68505006 Left lower quadrant of abdomen
        RLQ 48544008 Right lower quadrant of abdomen
        FLANK 58602004 Flank
        UMBILICAL 90290004 Umbilical region
        COLON 71854001 Colon
        LARGEINTESTINE 14742008 Large intestine
        SMALLINTESTINE 30315005 Small intestine
        ILEUM 34516001 Ileum
        APPENDIX 66754008 Appendix
        ASCENDINGCOLON 9040008 Ascending colon
        DESCENDINGCOLON 32622004 Descending colon
        RETROPERITONEUM 82849001 Retroperitoneum
        *URETER 87953007 Ureter
        ENDOURETERIC 87953007 Endo-ureteric
        ABDOMINALAORTA 7832008 Abdominal aorta
        INFMESA 33795007 Inferior mesenteric artery
        LUMBARA 34635009 Lumbar artery
        MESENTRICA 86570000 Mesenteric artery
        MESENTRICV 128583004 Mesenteric vein
        COMILIACA 73634005 Common iliac artery
        COMILIACV 46027005 Common iliac vein
        UMBILICALA 50536004 Umbilical artery
        UMBILICALV 284639000 Umbilical vein
        AMNIOTICFLUID 77012006 Amniotic fluid
        GESTSAC 300571009 Gestational sac
        PLACENTA 78067005 Placenta
        FETALARM - Fetal arm
        FETALDIGIT - Fetal digit
        FETALHEART - Fetal heart
        FETALLEG - Fetal leg
        FETALPOLE - Fetal pole
        """,
    "pelvis": """
        PELVIS 816092008 Pelvis
        SSPINE 54735007 Sacrum
        COCCYX 64688005 Coccyx
        *SIJOINT 39723000 Sacroiliac joint
        *ILIUM 22356005 Ilium
        HYPOGASTRIC 11708003 Hypogastric region
        SUPRAPUBIC 11708003 Suprapubic region
        PERINEUM 38864007 Perineum
        BLADDER 89837001 Bladder
        ENDOVESICAL 48367006 Endo-vesical
        BLADDERURETHRA 110837003 Bladder and urethra
        URETHRA 13648007 Urethra
        ENDOURETHRAL 13648007 Endo-urethral
        SIGMOID 60184004 Sigmoid colon
        RECTUM 34402009 Rectum
        ENDORECTAL 34402009 Endo-rectal
        ANUSRECTUMSIGMD 110612005 Anus, rectum and sigmoid colon
        PROSTATE 41216001 Prostate
        SEMVESICLE 64739004 Seminal vesicle
        PENIS 18911002 Penis
        PENILEA 282044005 Penile artery
        SCROTUM 20233005 Scrotum
        *TESTIS 40689003 Testis
        *EPIDIDYMIS 87644002 Epididymis
        UTERUS 35039007 Uterus
        ENDOMETRIUM 2739003 Endometrium
        CERVIX 71252005 Cervix
        *OVARY 15497006 Ovary
        VAGINA 76784001 Vagina
        ENDOVAGINAL 76784001 Endo-vaginal
        VULVA 45292006 Vulva
        CULDESAC 53843000 Rectouterine pouch
        INTILIACA 90024005 Internal iliac artery
        EXTILIACA 113269004 External iliac artery
        EXTILIACV 63507001 External iliac vein
        """,
    "pelvis hip": """
        *HIP 24136001 Hip joint
        *BUTTOCK 46862004 Buttock
        *GLUTEAL 46862004 Gluteal region
        *INGUINAL 26893007 Inguinal region
        LINGUINAL 85119005 Left inguinal region
        RINGUINAL 37117007 Right inguinal region
        ILIACA 10293006 Iliac artery
        ILIACV 244411005 Iliac vein
        """,
    "pelvis hip thigh knee leg foot": """
        PELVISLOWEXTREMT 1231522001 Pelvis and lower extremities
        """,
    "hip thigh knee leg foot": """
        *LOWERLIMB 61685007 Lower limb
        GSV 60734001 Great saphenous vein
        SAPHENOUSV 362072009 Saphenous vein
        """,
    "hip thigh knee": """
        *FEMUR 71341001 Femur
        CFA 181347005 Common femoral artery
        CFV 397363009 Common femoral vein
        FEMORALA 7657000 Femoral artery
        LFEMORALA 113270003 Left femoral artery
        RFEMORALA 69833005 Right femoral artery
        FEMORALV 83419000 Femoral vein
        SFA 181349008 Superficial femoral artery
        SFV 397364003 Superficial femoral vein
        SFJ 128587003 Saphenofemoral junction
        PROFFEMA 31677005 Profunda femoris artery
        PROFFEMV 23438002 Profunda femoris vein
        """,
    "thigh": """
        *THIGH 68367000 Thigh
        """,
    "knee": """
        *KNEE 72696002 Knee
        *PATELLA 64234005 Patella
        *POPLITEALFOSSA 32361000 Popliteal fossa
        POPLITEALA 43899006 Popliteal artery
        POPLITEALV 56849005 Popliteal vein
        GENICULARA 128559007 Genicular artery
        """,
    "knee leg foot": """
        *TIBIA 12611008 Tibia
        *FIBULA 87342007 Fibula
        *TIBIAFIBULA 110536004 Tibia and fibula
        ANTTIBIALA 68053000 Anterior tibial artery
        POSTIBIALA 13363002 Posterior tibial artery
        PERONEALA 8821006 Peroneal artery
        """,
    "thigh knee leg foot": """
        *LEG 30021000 Lower leg
        """,
    "leg": """
        *LOWERLEG 30021000 Lower leg
        *CALF 53840002 Calf of leg
        """,
    "leg foot": """
        *ANKLE 70258002 Ankle joint
        """,
    "foot": """
        *FOOT 56459004 Foot
        *TOE 29707007 Toe
        *CALCANEUS 80144004 Calcaneus
        *SESAMOID 58742003 Sesamoid bones of foot
        """,
    "shoulder arm elbow forearm hand hip thigh knee leg foot": """
        *EXTREMITY 66019005 Extremity
        """,
    EVERYWHERE: """
        WHOLEBODY 38266002 Entire body
        PHANTOM 706342009 Phantom
        JOINT 39352004 Joint
        ARTERY 51114001 Artery
        ENDOARTERIAL 51114001 Endo-arterial
        VEIN 29092000 Vein
        ENDOVENOUS 29092000 Endo-venous
        ENDOVASCULAR 59820001 Endo-vascular
        LUMEN 91747007 Lumen of blood vessel
        """,
}
"""Rows by the areas that they are in."""
