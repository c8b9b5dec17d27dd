# SPDX-License-Identifier: Apache-2.0
"""Our classes under the names of transformers' Auto classes, so that its pipeline and its users find them.

Importing this module does it, as `import unisegment` does. Checkpoints of `model_type` "unisegment" then open through
AutoConfig, AutoModel, AutoModelForImageSegmentation, AutoModelForUniversalSegmentation and AutoImageProcessor; nothing
changes for any other model, a stock Mask2Former included.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageSegmentation, AutoModelForUniversalSegmentation

# Without torchvision, transformers 5.15 has only a placeholder at its top level.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES

from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation

# `exist_ok`: a module may be imported again, as notebooks do.
AutoConfig.register(UniSegmentConfig.model_type, UniSegmentConfig, exist_ok=True)
# The pipeline looks for image segmentation, not for universal segmentation.
for auto_class in (AutoModel, AutoModelForImageSegmentation, AutoModelForUniversalSegmentation):
    auto_class.register(UniSegmentConfig, UniSegmentForUniversalSegmentation, exist_ok=True)
# One class for both backends: it needs no torchvision, and whoever has it shall not be told that something is missing.
AutoImageProcessor.register(
    UniSegmentConfig,
    image_processor_classes={"torchvision": UniSegmentImageProcessor, "pil": UniSegmentImageProcessor},
    exist_ok=True,
)
# The pipeline checks names against this list alone; without ours it logs, as an error, that it does not support us.
MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES[UniSegmentConfig.model_type] = (
    UniSegmentForUniversalSegmentation.__name__
)
