"""The try-on prompt that is used when a message brings none."""

from hashlib import sha256

#: Raised with every change of the prompt, so that events before and after can be told apart.
VERSION = 1
DEFAULT_PROMPT = (
    "Virtual try-on. The first image shows a person; every further image shows a garment or an accessory. "
    "Create one photorealistic picture of exactly this person wearing all of these items. "
    "Keep the person's face, hair, skin tone, body shape, pose and the background unchanged. "
    "Reproduce each item faithfully: colour, pattern, fabric, logos and cut; let it fit and fold naturally, "
    "with light and shadow that match the photo. Replace only what the new items cover. "
    "Show the person from head to feet when the first image does. Add no text, watermark or frame."
)


def version(prompt: str) -> str:
    """Name of a message's prompt for its event: `worker-N` for the worker's own, else a digest that hides the text."""
    text = prompt.strip()
    return f"message-{sha256(text.encode(errors='replace')).hexdigest()[:8]}" if text else f"worker-{VERSION}"
