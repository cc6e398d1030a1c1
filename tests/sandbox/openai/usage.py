"""The usage block: token counts as the real models report them for such pictures."""

import io
import math
from typing import Any

from PIL import Image

from tests.sandbox.openai.calls import Call

#: Output tokens of a portrait picture by quality, scaled by area for other sizes.
_OUTPUT = {"low": 408, "medium": 1584, "high": 6240, "auto": 1584}
_PORTRAIT_AREA = 1024 * 1536


def usage_of(call: Call, pictures: list[bytes], size: str) -> dict[str, Any]:
    """Input tokens by prompt length and picture size, output tokens by quality and size."""
    text = 8 + math.ceil(len(call.prompt) / 4)
    image = sum(_image_tokens(picture) for picture in pictures)
    width, height = (int(side) for side in size.split("x"))
    output = round(_OUTPUT.get(call.parameters.get("quality", "high"), 6240) * width * height / _PORTRAIT_AREA)
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "total_tokens": text + image + output,
    }


def _image_tokens(picture: bytes) -> int:
    """A base plus one price per tile of 512 pixels, after the shorter side was scaled to 512."""
    try:
        width, height = Image.open(io.BytesIO(picture)).size
    except OSError:
        return 65
    scale = 512 / min(width, height)
    return 65 + 129 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
