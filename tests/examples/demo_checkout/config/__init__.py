"""As in DeMo: the settings with their defaults."""

from yacs.config import CfgNode

cfg = CfgNode(
    {
        "MODEL": {"NAME": "DeMo", "DIRECT": 1, "TRANSFORMER_TYPE": "vit_base_patch16_224"},
        "DATASETS": {"NAMES": "RGBNT201"},
        "SOLVER": {"SEED": 1111, "BASE_LR": 0.009, "MAX_EPOCHS": 120, "IMS_PER_BATCH": 128},
        "TEST": {"IMS_PER_BATCH": 256},
        "OUTPUT_DIR": "./test",
    }
)
